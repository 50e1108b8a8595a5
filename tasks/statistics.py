"""Paired comparisons of two models on the same items, with items that belong together resampled together.

An item's difference is the candidate's score minus the generator's: -1, 0 or 1 for right-or-wrong items. Items with the
same key (a topic, a kind of instruction) tend to rise and fall together; resampling single items would then promote
equal models far too often, so whole clusters are resampled.

Legend: N items, C clusters, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

NORMAL = NormalDist()
CHUNK = 4_000_000
"""Most numbers held at once while resampling."""


@dataclass(frozen=True)
class Clusters:
    """Differences summed by cluster."""

    sums_C: NDArray[np.float64]
    sizes_C: NDArray[np.float64]

    @property
    def n(self) -> int:
        return int(self.sizes_C.sum())

    @property
    def gain(self) -> float:
        return float(self.sums_C.sum() / self.sizes_C.sum())


@dataclass(frozen=True)
class Gain:
    """Mean paired difference with its uncertainty; all as fractions (0.05 is five points)."""

    gain: float
    lower: float
    """One-sided lower bound at the asked confidence."""
    upper: float
    standard_error: float
    n: int
    clusters: int


def cluster(differences: Sequence[float], keys: Sequence[str]) -> Clusters:
    """Sums by key, in the order of first appearance. Raises ValueError for no items or unequal lengths."""
    if len(differences) != len(keys) or not len(differences):
        raise ValueError(f"{len(differences)} differences and {len(keys)} keys; expected equal numbers above 0")
    index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    owner_N = np.array([index[key] for key in keys])
    values_N = np.asarray(differences, dtype=np.float64)
    return Clusters(
        np.bincount(owner_N, values_N).astype(np.float64, copy=False), np.bincount(owner_N).astype(np.float64)
    )


def student_quantile(probability: float, degrees: int) -> float:
    """Student's t quantile by the Cornish-Fisher series; within 1 % from 2 degrees of freedom at 95 % and 97.5 %."""
    z = NORMAL.inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees ** (i + 1) for i, term in enumerate(terms))


def resampled_gains(clusters: Clusters, resamples: int, seed: int) -> NDArray[np.float64]:
    """Mean differences [R] of datasets drawn by cluster, with replacement."""
    rng = np.random.default_rng(seed)
    count = len(clusters.sums_C)
    even = np.full(count, 1 / count)
    step = max(1, CHUNK // count)
    gains = []
    for start in range(0, resamples, step):
        draws_RC = rng.multinomial(count, even, size=min(step, resamples - start)).astype(np.float64)
        gains.append((draws_RC @ clusters.sums_C) / (draws_RC @ clusters.sizes_C))
    return np.concatenate(gains)


def bootstrap_gain(clusters: Clusters, *, confidence: float, resamples: int = 10_000, seed: int = 0) -> Gain:
    """Percentile bootstrap over clusters, its tail widened for few clusters (t instead of z, C/(C-1) variance).

    Raises ValueError for a single cluster: nothing can be said about other topics then.
    """
    count = len(clusters.sums_C)
    if count < 2:
        raise ValueError(f"{count} cluster of items; the bootstrap needs at least 2")
    inflation = (count / (count - 1)) ** 0.5
    tail = NORMAL.cdf(-inflation * student_quantile(confidence, count - 1))
    gains_R = resampled_gains(clusters, resamples, seed)
    lower, upper = np.quantile(gains_R, [tail, 1 - tail])
    error = inflation * float(gains_R.std(ddof=1))
    return Gain(clusters.gain, float(lower), float(upper), error, clusters.n, count)


def regression_p_value(clusters: Clusters, resamples: int = 10_000, seed: int = 0) -> float:
    """One-sided p of "the candidate is not worse": signs of whole clusters are flipped at random.

    Where the models are equal each cluster's difference is as likely to be positive as negative. Small families keep
    their level: with three clusters p is never under 1/8.
    """
    moved_C = clusters.sums_C[clusters.sums_C != 0]
    if not len(moved_C):
        return 1.0
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // len(moved_C))
    observed, at_most = moved_C.sum(), 0
    for start in range(0, resamples, step):
        signs = rng.integers(0, 2, size=(min(step, resamples - start), len(moved_C))) * 2 - 1
        at_most += int((signs @ moved_C <= observed + 1e-9).sum())
    return (at_most + 1) / (resamples + 1)


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's step-down procedure rejects, with the chance of any false rejection at most alpha."""
    rejected = [False] * len(p_values)
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] > alpha / (len(p_values) - rank):
            break
        rejected[i] = True
    return rejected


def smallest_detectable_gain(
    result: Gain, discordance: float, *, confidence: float, min_gain: float, power: float = 0.8
) -> float:
    """The true gain that the gate would promote with probability `power`, at this n, discordance and clustering.

    discordance: share of items where exactly one model passes. A gain of d needs at least d of it, so where few answers
    moved the variance is taken at the gain itself.
    """
    z_power, z_level = NORMAL.inv_cdf(power), NORMAL.inv_cdf(confidence)
    single = max(discordance - result.gain**2, 1e-12) / result.n
    design = max(1.0, result.standard_error**2 / single) if discordance else 1.0
    low, high = 0.0, 1.0
    for _ in range(50):
        gain = (low + high) / 2
        error = (max(max(discordance, gain) - gain**2, 0.0) * design / result.n) ** 0.5
        low, high = (low, gain) if gain >= max(min_gain, z_level * error) + z_power * error else (gain, high)
    return high
