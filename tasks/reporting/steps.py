"""The development half after every training step, where its numbers moved, and the controls of the gate half."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tasks.reporting.lineage import Node, Turn
from tasks.reporting.plots import step_plot

FAMILY = "accuracy/"
COLUMNS = {"accuracy": "accuracy", "reward_mean": "reward mean", "win_rate": "win rate"}
"""Shown metrics beside the families' accuracies, by their names in tasks/evaluate.py."""


@dataclass(frozen=True)
class Cell:
    value: float | None
    change: float | None
    """Against the row above."""
    mark: str
    """ "best", "worst" or "" within the column."""


@dataclass(frozen=True)
class Move:
    """The largest change of a metric from one step to the next."""

    label: str
    change: float


@dataclass(frozen=True)
class StepTable:
    columns: dict[str, str]
    """Headings by metric."""
    rows: list[tuple[str, dict[str, Cell]]]
    items: int
    judged: int
    rise: Move | None
    """Of the accuracy; None where no step raised it."""
    fall: Move | None
    plot: Markup
    from_base: bool
    """Whether the first step started from another model than the generator above it."""


@dataclass(frozen=True)
class Control:
    """What the same base became without the teacher's answers, on the gate half."""

    name: str
    accuracy: float | None
    judged: int
    gain: float | None
    """Of the candidate over it."""
    families: dict[str, float]
    """The candidate's gain by family."""


def step_table(turn: Turn) -> StepTable:
    exams = {"generator": turn.baseline} | turn.evaluations
    metrics = {label: exam.manifest.metrics for label, exam in exams.items()}
    names = {name for values in metrics.values() for name in values}
    families = {name: name.removeprefix(FAMILY) for name in sorted(names) if name.startswith(FAMILY)}
    columns = {name: heading for name, heading in COLUMNS.items() if name in names}
    columns = {name: columns.pop(name) for name in ("accuracy",) if name in columns} | families | columns
    cells = {name: column_of([values.get(name) for values in metrics.values()]) for name in columns}
    rows = [(label, {name: cells[name][place] for name in columns}) for place, label in enumerate(metrics)]
    of_generator = turn.baseline.manifest.metrics
    return StepTable(
        columns=columns,
        rows=rows,
        items=int(of_generator.get("items", 0)),
        judged=int(of_generator.get("judged_items", 0)),
        rise=largest_move(turn, "accuracy", up=True),
        fall=largest_move(turn, "accuracy", up=False),
        plot=step_plot([(label, values.get("accuracy")) for label, values in metrics.items()]),
        from_base=bool(turn.base) and turn.base != turn.generator,
    )


def column_of(values: Sequence[float | None]) -> list[Cell]:
    """A column from top to bottom; where all values are equal none is best or worst."""
    known = [value for value in values if value is not None]
    best, worst = (max(known), min(known)) if known else (0.0, 0.0)
    marks = {best: "best", worst: "worst"} if best != worst else {}
    cells, before = [], None
    for value in values:
        change = None if value is None or before is None else value - before
        cells.append(Cell(value, change, marks.get(value, "") if value is not None else ""))
        before = value
    return cells


def largest_move(turn: Turn, metric: str, *, up: bool) -> Move | None:
    """The step after which the metric rose (or fell) most; None where none did."""
    labels = ["generator", *turn.evaluations]
    exams = [turn.baseline, *turn.evaluations.values()]
    values = [exam.manifest.metrics.get(metric) for exam in exams]
    moves = [
        Move(label, after - before)
        for label, before, after in zip(labels[1:], values, values[1:], strict=False)
        if before is not None and after is not None
    ]
    moves = [move for move in moves if (move.change > 0 if up else move.change < 0)]
    return max(moves, key=lambda move: abs(move.change)) if moves else None


def controls_of(turn: Turn) -> list[Control]:
    """Everything here is on the gate half, so the candidate's exam is what they are held against."""
    return [control_of(name, exam, turn.candidate_exam) for name, exam in turn.controls.items()]


def control_of(name: str, exam: Node, candidate: Node) -> Control:
    ours, theirs = candidate.manifest.metrics, exam.manifest.metrics
    gains = {metric: ours[metric] - value for metric, value in sorted(theirs.items()) if metric in ours}
    return Control(
        name=name,
        accuracy=theirs.get("accuracy"),
        judged=int(theirs.get("judged_items", 0)),
        gain=gains.get("accuracy"),
        families={key.removeprefix(FAMILY): gain for key, gain in gains.items() if key.startswith(FAMILY)},
    )
