"""How well predicted attributes agree with labels: error, correlation, and the order within a prompt's answers.

N = answers, A = attributes.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from models.reward import scalar_reward
from tasks.rows import ATTRIBUTES


def attribute_metrics(predicted_NA: Tensor, labels_NA: Tensor, prompts: Sequence[str]) -> dict[str, float]:
    """Missing labels and predictions are NaN. A metric that the rows cannot define is left out."""
    predicted_NA, labels_NA = predicted_NA.double(), labels_NA.double()
    present_NA = ~(labels_NA.isnan() | predicted_NA.isnan())
    metrics: dict[str, float] = {}
    if present_NA.any():
        metrics["mse"] = float((predicted_NA - labels_NA)[present_NA].square().mean())
    for a, name in enumerate(ATTRIBUTES):
        rows = present_NA[:, a]
        correlation = pearson(predicted_NA[rows, a], labels_NA[rows, a])
        if correlation is not None:
            metrics[f"pearson_{name}"] = correlation
    complete = present_NA.all(dim=1)
    kept = [prompt for prompt, whole in zip(prompts, complete.tolist(), strict=True) if whole]
    return metrics | pair_metrics(predicted_NA[complete], labels_NA[complete], kept)


def pearson(first_N: Tensor, second_N: Tensor) -> float | None:
    """None where there are under two values or one side does not vary."""
    if len(first_N) < 2 or first_N.std() == 0 or second_N.std() == 0:
        return None
    return float(torch.corrcoef(torch.stack([first_N, second_N]))[0, 1])


def pair_metrics(predicted_NA: Tensor, labels_NA: Tensor, prompts: Sequence[str]) -> dict[str, float]:
    """Share of pairs of answers to one prompt that the scalar reward puts in the labels' order.

    Pairs with equal labelled rewards are left out; equal predicted ones count as wrong.
    """
    answers: dict[str, list[tuple[float, float]]] = {}
    for prompt, predicted, labels in zip(prompts, predicted_NA.tolist(), labels_NA.tolist(), strict=True):
        answers.setdefault(prompt, []).append((scalar_reward(predicted), scalar_reward(labels)))
    pairs = [pair for group in answers.values() for pair in combinations(group, 2)]
    gaps = [(first[0] - second[0], first[1] - second[1]) for first, second in pairs if first[1] != second[1]]
    if not gaps:
        return {}
    return {"pair_accuracy": sum(found * wanted > 0 for found, wanted in gaps) / len(gaps), "pairs": len(gaps)}
