"""The first judge: an answer checked by code. A row's verifier names the checker, its version and what it gets."""

import importlib
import json
import pkgutil
from collections.abc import Mapping
from typing import Any

from infra.errors import InputError
from tasks.judges import verifiers
from tasks.judges.verifiers import CHECKERS, Checker
from tasks.rows import canonical

for _module in pkgutil.iter_modules(verifiers.__path__):
    importlib.import_module(f"{verifiers.__name__}.{_module.name}")


def verifier(kind: str, payload: Any) -> dict[str, Any]:
    """The verifier column of a row, at the checker's version of today."""
    return {"kind": kind, "version": _checker(kind).version, "payload": canonical(payload)}


def verify(verifier: Mapping[str, Any] | None, answer: str) -> bool | None:
    """Whether the answer is right; None when the row has no verifier or its checker cannot tell.

    Raises InputError for a kind that nobody registered, or a verifier made for a later version of its checker.
    """
    if verifier is None or not verifier["kind"]:
        return None
    checker = _checker(verifier["kind"])
    if verifier["version"] > checker.version:
        raise InputError(
            f"verifier {verifier['kind']!r} has version {verifier['version']}, this program knows {checker.version}",
            "update Ratchet, or make the rows again",
        )
    return checker.check(json.loads(verifier["payload"]), answer)


def _checker(kind: str) -> Checker:
    if kind not in CHECKERS:
        raise InputError(f"unknown verifier kind {kind!r}", f"known kinds: {', '.join(sorted(CHECKERS))}")
    return CHECKERS[kind]
