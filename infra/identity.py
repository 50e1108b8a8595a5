"""An artifact's address: a hash of what was asked for, never of where or how fast it was made."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from infra.errors import InputError


def fingerprint_of(stage: str, version: int, recipe: Mapping[str, Any], inputs: Mapping[str, str | list[str]]) -> str:
    """128 bits, as 32 hexadecimal digits: an artifact's address. InputError for a recipe that is not plain JSON."""
    content = {"stage": stage, "version": version, "recipe": dict(recipe), "inputs": dict(inputs)}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces. InputError names the place of a value that JSON cannot hold exactly."""
    check_plain(value, "$")
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def check_plain(value: Any, place: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"{place} has the key {key!r} of type {type(key).__name__}", "use text as keys")
            check_plain(key, f"{place} (key)")
            check_plain(item, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            check_plain(item, f"{place}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{place} is {value}", "use a finite number")
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InputError(f"{place} is {value!r}, which is no valid Unicode text", "remove the lone surrogate")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise InputError(f"{place} is of type {type(value).__name__}", "use plain JSON values")
