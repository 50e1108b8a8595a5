"""Evaluation items: fixed, curated or drawn by rule, never written by a generator. One module per family.

A maker returns `count` items of one half. Whatever the two halves must not share it splits with `halve`.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal

import yaml

from infra.errors import InputError
from tasks.configs.evaluation_set import EvaluationSetConfig

Half = Literal["dev", "gate"]
DEV_SHARE = 0.25


@dataclass(frozen=True)
class Item:
    key: str
    """"group/what is asked": the bootstrap's cluster, in one half only."""
    request: str
    verifier: dict[str, Any] | None
    """None where no single answer is right."""


Maker = Callable[[EvaluationSetConfig, Half, int], list[Item]]
MAKERS: dict[str, Maker] = {}


def register(family: str) -> Callable[[Maker], Maker]:
    """Make a function the maker of a family. Raises ValueError when two claim one family."""

    def add(maker: Maker) -> Maker:
        if family in MAKERS:
            raise ValueError(f"evaluation family {family!r} is registered twice, by {MAKERS[family]} and {maker}")
        MAKERS[family] = maker
        return maker

    return add


@cache
def curated(name: str) -> Any:
    """The YAML file of this name beside the makers."""
    return yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8"))


def evaluation_topics() -> list[str]:
    """Topics that no training prompt may have."""
    return curated("topics")


def halve(keys: Iterable[str], half: Half) -> list[str]:
    """The half's share of the keys, the same in every program: a key's place in the order of hashes decides.

    At least one key goes to each half; a single key goes to both (then something else must tell the halves apart).
    """
    ordered = sorted(set(keys), key=lambda key: hashlib.sha256(key.encode()).digest())
    if len(ordered) == 1:
        return ordered
    cut = max(1, round(DEV_SHARE * len(ordered)))
    return ordered[:cut] if half == "dev" else ordered[cut:]


def item_rng(config: EvaluationSetConfig, family: str, half: Half) -> Random:
    return Random(f"{config.seed}/{family}/{half}")


def take(items: list[Item], count: int, family: str, half: Half) -> list[Item]:
    """The first `count`. Raises InputError when there are fewer."""
    if count > len(items):
        raise InputError(
            f"evaluation family {family!r} has {len(items)} items in its {half} half, asked for {count}",
            f"set evaluation_set.{half}.{family} to at most {len(items)}",
        )
    return items[:count]
