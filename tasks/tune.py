"""The choice that ends a search: every candidate answered the same development items; which one goes on?

Truth-judged accuracy decides, as it does at the gate, but on the development half alone: items of the sealed half are
refused. Candidates that the items cannot tell from the best (`tie_errors` standard errors of the paired difference,
items of one key moving together) count as tied with it, and of those the gentlest goes on: the smallest learning rate,
then the largest beta, then the smallest SFT weight.

C = clusters of items with one key.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from infra.artifacts import Artifact
from infra.errors import InputError
from infra.output import Outcome, Output
from tasks.configs.tune import TuneConfig
from tasks.rows import PROVENANCE, SCHEMA_VERSION, make_row
from tasks.statistics import Clusters, cluster

Row = Mapping[str, Any]

SETTINGS = ("learning_rate", "beta", "sft_weight")
"""What can be searched, in the order in which it breaks ties."""

TRIAL = pa.schema(
    [
        ("id", pa.string()), ("candidate", pa.int32()), ("checkpoint", pa.string()), ("evaluation", pa.string()),
        *((name, pa.float64()) for name in SETTINGS), ("accuracy", pa.float64()), ("judged_items", pa.int32()),
        ("gap", pa.float64()), ("standard_error", pa.float64()), ("tied", pa.bool_()), ("chosen", pa.bool_()),
        ("final_loss", pa.float64()), ("tokens", pa.int64()), *PROVENANCE,
    ],
    metadata={"ratchet.schema": SCHEMA_VERSION},
)  # fmt: skip
"""One candidate. `gap`: accuracy that it lacks of the best, with its standard error; a setting that its stage does not
have is null."""


@dataclass(frozen=True)
class Trial:
    """A candidate with its answers to the development items."""

    model: Artifact
    evaluation: Artifact
    settings: Mapping[str, float]
    metrics: Mapping[str, float]
    """Of its training."""
    answers: Mapping[str, Row]
    """ANSWER rows (tasks/evaluate.py) by item."""


@dataclass(frozen=True)
class Score:
    """All numbers are fractions of the items."""

    accuracy: float
    gap: float
    standard_error: float
    tied: bool


def run(config: TuneConfig, output: Output, models: tuple[Artifact, ...], evaluations: tuple[Artifact, ...]) -> Outcome:
    """A TRIAL row for each candidate, in the order of `models`; the result names the chosen one and the rule.

    Raises InputError for evaluations of another half than "dev", of other models, or of unequal items.
    """
    trials = [read_trial(*pair) for pair in paired(models, evaluations)]
    items = judged_items(trials)
    scores = score(config, trials, items)
    chosen = choose(trials, scores)
    rows = [row_of(number, trial, scores[number], len(items), number == chosen) for number, trial in enumerate(trials)]
    output.write_shard(0, rows, TRIAL)
    searched = [name for name in SETTINGS if len({trial.settings.get(name) for trial in trials}) > 1]
    result = {
        "chosen": chosen,
        "settings": {name: trials[chosen].settings[name] for name in searched},
        "rule": rule_of(config, scores, len(items)),
        "half": "dev",
    }
    output.say(f"{', '.join(f'{name} {value:g}' for name, value in result['settings'].items())}: {result['rule']}")
    metrics = {"accuracy": scores[chosen].accuracy, "candidates": len(trials), "judged_items": len(items)}
    return Outcome(metrics=metrics, result=result)


def paired(models: Sequence[Artifact], evaluations: Sequence[Artifact]) -> list[tuple[Artifact, Artifact]]:
    """Each checkpoint with its own evaluation."""
    if len(models) != len(evaluations) or len(models) < 2:
        raise InputError(
            f"{len(models)} checkpoints and {len(evaluations)} evaluations; a choice needs two or more of each",
            "give one evaluation to each checkpoint, in the same order",
        )
    for model, evaluation in zip(models, evaluations, strict=True):
        examined = evaluation.manifest().inputs.get("model")
        if examined != model.fingerprint:
            raise InputError(
                f"{evaluation.uri} examined the model {examined}, and stands beside {model.fingerprint}",
                "give evaluations in the order of their checkpoints",
            )
    return list(zip(models, evaluations, strict=True))


def read_trial(model: Artifact, evaluation: Artifact) -> Trial:
    manifest, rows = model.manifest(), evaluation.rows()
    if halves := {row["half"] for row in rows} - {"dev"}:
        raise InputError(
            f"{evaluation.uri} answers the half {sorted(halves)}; settings are chosen on the development half only",
            'examine the candidates with half="dev"',
        )
    settings = {name: float(manifest.recipe[name]) for name in SETTINGS if name in manifest.recipe}
    return Trial(model, evaluation, settings, manifest.metrics, {row["item_id"]: row for row in rows})


def judged_items(trials: Sequence[Trial]) -> list[str]:
    """Items whose answers ground truth judged for every candidate. Raises InputError where candidates differ in items
    or nothing can be judged."""
    first = trials[0].answers.keys()
    for trial in trials[1:]:
        if differing := first ^ trial.answers.keys():
            raise InputError(
                f"the candidates did not answer the same items: {len(differing)} differ, such as "
                f"{sorted(differing)[:3]} between {trials[0].evaluation.uri} and {trial.evaluation.uri}",
                "examine every candidate on the same evaluation set with the same families",
            )
    items = [item for item in sorted(first) if all(trial.answers[item]["passed"] is not None for trial in trials)]
    if not items:
        raise InputError(
            f"none of {len(first)} development items has an answer that ground truth judged for every candidate",
            "examine families with checkable answers, or set one value instead of a range",
        )
    return items


def score(config: TuneConfig, trials: Sequence[Trial], items: Sequence[str]) -> list[Score]:
    """Every candidate against the best one; of equally good ones the gentlest stands for the best."""
    accuracies = [accuracy(trial, items) for trial in trials]
    best = min(range(len(trials)), key=lambda place: (-accuracies[place], gentleness(trials[place])))
    scores = []
    for place, trial in enumerate(trials):
        error = paired_error(trials[best], trial, items)
        gap = accuracies[best] - accuracies[place]
        scores.append(Score(accuracies[place], gap, error, tied=gap <= config.tie_errors * error))
    return scores


def accuracy(trial: Trial, items: Sequence[str]) -> float:
    return sum(trial.answers[item]["passed"] for item in items) / len(items)


def paired_error(better: Trial, other: Trial, items: Sequence[str]) -> float:
    """Standard error of the difference of two accuracies on the same items."""
    differences = [int(better.answers[item]["passed"]) - int(other.answers[item]["passed"]) for item in items]
    return clustered_error(cluster(differences, [better.answers[item]["key"] for item in items]))


def clustered_error(clusters: Clusters) -> float:
    """Of the mean, with whole clusters drawn at random: sqrt(C / (C - 1) * sum((sum_C - mean * size_C)^2)) / n.

    A single cluster says nothing about others: the largest error that a difference of shares can have.
    """
    count = len(clusters.sums_C)
    if count < 2:
        return 1.0
    residuals_C = clusters.sums_C - clusters.gain * clusters.sizes_C
    return math.sqrt(count / (count - 1) * float(np.square(residuals_C).sum())) / clusters.n


def choose(trials: Sequence[Trial], scores: Sequence[Score]) -> int:
    """The gentlest of the tied candidates, by its place."""
    tied = [place for place in range(len(trials)) if scores[place].tied]
    return min(tied, key=lambda place: (gentleness(trials[place]), place))


def gentleness(trial: Trial) -> tuple[float, ...]:
    """Smaller for settings that move a model less from where it starts."""
    settings = trial.settings
    return (settings.get("learning_rate", 0.0), -settings.get("beta", 0.0), settings.get("sft_weight", 0.0))


def rule_of(config: TuneConfig, scores: Sequence[Score], items: int) -> str:
    """The choice in words."""
    best, tied = max(found.accuracy for found in scores), sum(found.tied for found in scores)
    near = f"within {config.tie_errors:g} standard error{'s' * (config.tie_errors != 1)} of it"
    words = f"best accuracy {best:.1%} on {items} development items"
    if tied == 1:
        return f"{words}; no other candidate is {near}"
    return (
        f"{words}; {tied} of {len(scores)} candidates are {near}, and the gentlest of them "
        "goes on (smallest learning rate, then largest beta, then smallest SFT weight)"
    )


def row_of(number: int, trial: Trial, found: Score, items: int, chosen: bool) -> dict[str, Any]:
    """A TRIAL row; it holds no time, so that equal searches are equal bytes."""
    values = {
        "candidate": number,
        "checkpoint": trial.model.fingerprint,
        "evaluation": trial.evaluation.fingerprint,
        **trial.settings,
        "accuracy": found.accuracy,
        "judged_items": items,
        "gap": found.gap,
        "standard_error": found.standard_error,
        "tied": found.tied,
        "chosen": chosen,
        "final_loss": trial.metrics.get("final_loss"),
        "tokens": int(trial.metrics["tokens"]) if "tokens" in trial.metrics else None,
        "source": "search",
        "synthetic": False,
        "generator": "",
    }
    return make_row(TRIAL, values, [number, trial.model.fingerprint, trial.evaluation.fingerprint])
