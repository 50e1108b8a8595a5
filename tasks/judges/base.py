"""What every judge of a pair of answers has in common. Each judge is a class in a file of its own.

    ground truth -> reward model -> llm

is the order of precedence: a later judge is asked where the earlier ones have no opinion.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from models.engine import Generator
from tasks.configs.judging import JudgingConfig

Row = Mapping[str, Any]

GROUND_TRUTH, REWARD_MODEL, LLM = "ground_truth", "reward_model", "llm"
JUDGES = (GROUND_TRUTH, REWARD_MODEL, LLM)
"""Names in order of precedence, as they stand in the rows of preference sets."""


@dataclass(frozen=True)
class Pair:
    """Two scored RESPONSE rows that answer one prompt."""

    first: Row
    second: Row


@dataclass(frozen=True)
class Verdict:
    """One judge's opinion on a pair."""

    choice: Literal["first", "second"] | None
    """The better answer; None where the judge has no (consistent) opinion."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What the opinion rests on; the keys are the judge's own."""


class Judge(Protocol):
    """Built once for a stage."""

    @property
    def costly(self) -> bool:
        """Whether it runs a model for each pair, and so sees a sample of them only."""
        ...

    def __init__(self, config: JudgingConfig, open_engine: Callable[[], Generator]) -> None: ...

    def compare(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair, in order."""
        ...

    def calibrate(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> dict[str, Any]:
        """What these verdicts say about the judge itself, for the report."""
        ...


class GroundTruthJudge:
    """The answer that passed its check over the one that failed it."""

    costly = False

    def __init__(self, config: JudgingConfig, open_engine: Callable[[], Generator]) -> None:
        del config, open_engine

    def compare(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [self._verdict(pair.first["passed"], pair.second["passed"]) for pair in pairs]

    def _verdict(self, first: bool | None, second: bool | None) -> Verdict:
        if first is None or second is None or first == second:
            return Verdict(None)
        return Verdict("first" if first else "second")

    def calibrate(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> dict[str, Any]:
        return {"pairs": len(pairs), "decided": sum(verdict.choice is not None for verdict in verdicts)}


def agreement(one: Sequence[Verdict], other: Sequence[Verdict]) -> dict[str, float | int | None]:
    """On how many pairs both judges have an opinion, and on which share of those it is the same."""
    both = [(a.choice, b.choice) for a, b in zip(one, other, strict=True) if a.choice and b.choice]
    return {"pairs": len(both), "agree": sum(a == b for a, b in both) / len(both) if both else None}


def length_bias(pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> dict[str, float | int | None]:
    """How often the longer answer (in words) wins among decided pairs of unequal length."""
    wins = [
        (len(pair.first["response"].split()) > len(pair.second["response"].split())) == (verdict.choice == "first")
        for pair, verdict in zip(pairs, verdicts, strict=True)
        if verdict.choice and len(pair.first["response"].split()) != len(pair.second["response"].split())
    ]
    return {"pairs": len(wins), "longer_wins": sum(wins) / len(wins) if wins else None}
