"""Every training step: what it did, its loss over time, and for preference tuning the gaps that it aimed at."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tasks.configs.training import PreferenceTuningConfig, PretrainConfig
from tasks.reporting.lineage import CURVES, Node, Turn
from tasks.reporting.plots import line_plot

PANELS: dict[str, tuple[str, ...]] = {
    "loss": ("loss", "validation_loss"),
    "pairs in the right order (share)": ("accuracy",),
    "gap between chosen and rejected": ("policy_gap", "reward_gap"),
    "log-probability against the start (nats)": ("chosen_shift", "rejected_shift"),
}
"""Plots by title, each of the metrics that the curves hold."""


@dataclass(frozen=True)
class Curves:
    label: str
    plots: list[Markup]

    @property
    def single(self) -> bool:
        return len(self.plots) == 1


@dataclass(frozen=True)
class TrainedRow:
    """One line of the training table."""

    label: str
    examples: int | None
    steps: int
    skipped: int
    learning_rate: float | None
    mean_loss: float | None
    final_loss: float | None
    tokens: int
    tokens_per_s: float | None
    memory_gib: float | None


@dataclass(frozen=True)
class TuningRow:
    """The aims of one round of preference tuning; DPO knows no rewards."""

    label: str
    objective: str
    pairs: int
    beta: float | None
    eta: float | None
    eta_setting: str
    reward_gap: float | None
    """Median of |eta times reward gap|."""
    target_gap_nats: float | None
    against_reward: float | None
    final_gap: float | None
    final_accuracy: float | None


def pretraining_of(turn: Turn) -> dict[str, Node]:
    """Pretraining phases behind base and generator, in order, by label."""
    return {node.manifest.label: node for node in turn.origins if node.manifest.stage == PretrainConfig.stage}


def trained_rows(nodes: Mapping[str, Node]) -> list[TrainedRow]:
    return [trained_row(label, node) for label, node in nodes.items()]


def trained_row(label: str, node: Node) -> TrainedRow:
    metrics = node.manifest.metrics
    rate = metrics.get("full_learning_rate", node.manifest.recipe.get("learning_rate"))
    examples = metrics.get("pairs", metrics.get("examples", node.manifest.counts.get("kept")))
    return TrainedRow(
        label=label,
        examples=None if examples is None else int(examples),
        steps=int(metrics.get("steps", 0)),
        skipped=int(metrics.get("skipped_steps", 0)),
        learning_rate=float(rate) if isinstance(rate, int | float) else None,
        mean_loss=metrics.get("mean_loss"),
        final_loss=metrics.get("final_loss"),
        tokens=int(metrics.get("tokens", 0)),
        tokens_per_s=metrics.get("tokens_per_s"),
        memory_gib=metrics.get("peak_memory_gib"),
    )


def tuning_rows(turn: Turn) -> list[TuningRow]:
    """The preference-tuning rounds among the steps."""
    nodes = {label: node for label, node in turn.models.items() if node.manifest.stage == PreferenceTuningConfig.stage}
    return [tuning_row(label, node) for label, node in nodes.items()]


def tuning_row(label: str, node: Node) -> TuningRow:
    metrics = node.manifest.metrics
    return TuningRow(
        label=label,
        objective=str(node.manifest.result.get("objective", "")).upper(),
        pairs=int(metrics.get("pairs", 0)),
        beta=metrics.get("beta"),
        eta=metrics.get("eta"),
        eta_setting="auto" if node.manifest.recipe.get("eta") == "auto" else "set",
        reward_gap=metrics.get("median_reward_gap"),
        target_gap_nats=metrics.get("median_target_gap_nats"),
        against_reward=metrics.get("share_against_reward"),
        final_gap=metrics.get("final_policy_gap"),
        final_accuracy=metrics.get("final_accuracy"),
    )


def curves_of(nodes: Mapping[str, Node]) -> list[Curves]:
    """Plots of every model that has training curves."""
    found = [Curves(label, panels(label, node.artifact.read_json(CURVES))) for label, node in nodes.items()
             if node.holds(CURVES)]  # fmt: skip
    return [curves for curves in found if curves.plots]


def panels(label: str, points: Iterable[dict[str, Any]]) -> list[Markup]:
    """A plot for each panel that has values; points are {"step", "values": {metric: number or null}}."""
    points = list(points)
    plots = []
    for title, metrics in PANELS.items():
        series = {
            metric.replace("_", " "): [(p["step"], p["values"][metric]) for p in points if metric in p["values"]]
            for metric in metrics
        }
        plots.append(line_plot(f"{label}: {title}", {name: values for name, values in series.items() if values}))
    return [plot for plot in plots if plot]
