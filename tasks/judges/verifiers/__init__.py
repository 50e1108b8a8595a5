"""Ground-truth checkers by kind. A module in this package registers its own; ground_truth.py imports them all.

A checker takes the verifier's payload (parsed JSON) and an answer, and returns its verdict,
None for "cannot be judged".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Check = Callable[[Any, str], bool | None]


@dataclass(frozen=True)
class Checker:
    version: int
    """Raised when the checker's verdicts change; a row made for a later version is refused."""
    check: Check


CHECKERS: dict[str, Checker] = {}


def register(kind: str, version: int = 1) -> Callable[[Check], Check]:
    """Make a function the checker of a verifier kind. Raises ValueError when two modules claim one kind."""

    def add(check: Check) -> Check:
        if kind in CHECKERS:
            raise ValueError(f"verifier kind {kind!r} is registered twice, by {CHECKERS[kind].check} and {check}")
        CHECKERS[kind] = Checker(version, check)
        return check

    return add
