"""How far each judge can be trusted, and how well the reward model fits its labels."""

from dataclasses import dataclass
from typing import Any

from tasks.configs.judging import JudgingConfig
from tasks.configs.training import RewardModelConfig
from tasks.reporting.data import JUDGES, in_order
from tasks.reporting.lineage import Turn
from tasks.rows import ATTRIBUTES

JUDGES_FILE = "judges.json"


@dataclass(frozen=True)
class JudgeRow:
    """One judge's own calibration; what it does not have is None."""

    name: str
    pairs: int
    decided: int
    flip_rate: float | None
    first_seat: float | None
    longer_wins: float | None
    letter_mass: float | None


@dataclass(frozen=True)
class Agreement:
    """Of two judges, by family: the share of pairs on which they agree, and of how many."""

    judges: str
    families: dict[str, tuple[float | None, int]]


@dataclass(frozen=True)
class Judges:
    rows: list[JudgeRow]
    agreement: list[Agreement]
    families: list[str]
    """Columns of the agreement, "all" first."""


@dataclass(frozen=True)
class RewardFit:
    """The reward model's fit on its validation rows."""

    mode: str
    training_rows: int
    validation_rows: int
    pair_accuracy: float | None
    pairs: int
    mse: float | None
    attributes: list[tuple[str, float | None, float | None]]
    """Name, correlation with the labels on validation rows, and on training rows left out in turn (ridge)."""


def judges_of(turn: Turn) -> Judges | None:
    """None where no judging stage left its report."""
    found = [node for node in turn.of_stage(JudgingConfig.stage) if node.holds(JUDGES_FILE)]
    if not found:
        return None
    report = found[-1].artifact.read_json(JUDGES_FILE)
    agreement = [agreement_of(name, families) for name, families in report["agreement"].items()]
    families = sorted({name for one in agreement for name in one.families} - {"all"})
    rows = [judge_row(name, report["judges"][name]) for name in in_order(report["judges"], JUDGES)]
    return Judges(rows, agreement, ["all", *families])


def judge_row(name: str, facts: dict[str, Any]) -> JudgeRow:
    return JudgeRow(
        name=JUDGES.get(name, name),
        pairs=facts["pairs"],
        decided=facts.get("consistent", facts.get("decided", 0)),
        flip_rate=facts.get("flip_rate"),
        first_seat=facts.get("first_seat_share"),
        longer_wins=(facts.get("length") or {}).get("longer_wins"),
        letter_mass=facts.get("letter_mass"),
    )


def agreement_of(names: str, families: dict[str, Any]) -> Agreement:
    title = " and ".join(JUDGES.get(name, name) for name in names.split("/"))
    return Agreement(title, {family: (facts["agree"], facts["pairs"]) for family, facts in families.items()})


def reward_fit_of(turn: Turn) -> RewardFit | None:
    """None where the reward model was not trained here."""
    found = turn.of_stage(RewardModelConfig.stage)
    if not found:
        return None
    manifest = found[-1].manifest
    metrics = manifest.metrics
    names = {name: (f"pearson_{name}", f"left_out_pearson_{name}") for name in ATTRIBUTES}
    return RewardFit(
        mode=str(manifest.result.get("mode", "")),
        training_rows=int(metrics.get("training_rows", 0)),
        validation_rows=int(metrics.get("validation_rows", 0)),
        pair_accuracy=metrics.get("pair_accuracy"),
        pairs=int(metrics.get("pairs", 0)),
        mse=metrics.get("mse"),
        attributes=[(name, metrics.get(ours), metrics.get(left)) for name, (ours, left) in names.items()],
    )
