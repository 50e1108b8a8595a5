"""The searches over hyperparameters: what each candidate reached on the development half, and which one went on."""

from dataclasses import dataclass

from tasks.reporting.lineage import Node, Turn
from tasks.tune import SETTINGS


@dataclass(frozen=True)
class TrialRow:
    """One candidate."""

    settings: list[float | None]
    """In the order of the table's columns."""
    accuracy: float
    gap: float
    standard_error: float
    tied: bool
    chosen: bool
    final_loss: float | None
    tokens: int | None


@dataclass(frozen=True)
class SearchTable:
    label: str
    columns: list[str]
    """Settings that differ between candidates."""
    rows: list[TrialRow]
    rule: str


def searches_of(turn: Turn) -> list[SearchTable]:
    return [search_table(node) for node in turn.searches]


def search_table(node: Node) -> SearchTable:
    trials = node.artifact.rows()
    searched = [name for name in SETTINGS if len({trial[name] for trial in trials}) > 1]
    numbers = ("accuracy", "gap", "standard_error", "tied", "chosen", "final_loss", "tokens")
    rows = [TrialRow([trial[name] for name in searched], **{name: trial[name] for name in numbers}) for trial in trials]
    columns = [name.replace("_", " ") for name in searched]
    return SearchTable(node.manifest.label, columns, rows, str(node.manifest.result["rule"]))
