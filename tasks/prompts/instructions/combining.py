"""Several instructions on one answer: only such as cannot contradict each other, whatever their parameters."""

from collections.abc import Sequence
from random import Random

from tasks.prompts.instructions.kinds import instruction


def compatible(one: str, other: str) -> bool:
    """Whether the two kinds rule different things and neither bars what the other rules."""
    first, second = instruction(one), instruction(other)
    taken = set(first.governs) & {*second.governs, *second.bars} or set(first.bars) & set(second.governs)
    return not taken


def draw_compatible(kinds: Sequence[str], count: int, rng: Random, first: str | None = None) -> list[str]:
    """Up to `count` of the kinds, each compatible with all others; fewer where no more go together."""
    chosen = [first] if first else []
    for kind in rng.sample(kinds, len(kinds)) if count > len(chosen) else ():
        if len(chosen) < count and all(compatible(kind, other) for other in chosen):
            chosen.append(kind)
    return chosen
