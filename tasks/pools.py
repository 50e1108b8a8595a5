"""Choosing among millions of rows: of each only its place in the input, its seed and its family are in memory."""

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError

Chosen = NDArray[Any]
"""Rows in the order in which they are taken, as a structured array of `ENTRY`."""
ENTRY = np.dtype([("place", np.int64), ("seed", np.uint64)])
Entry = tuple[int, int, str]
"""Place, seed, family."""


class Pool:
    """Rows that may enter a part."""

    def __init__(self) -> None:
        self._places, self._seeds, self._families = array("q"), array("Q"), array("i")
        self._names: dict[str, int] = {}

    def add(self, place: int, seed: int, family: str) -> None:
        self._places.append(place)
        self._seeds.append(seed)
        self._families.append(self._names.setdefault(family, len(self._names)))

    def drawn(self, limit: int) -> Chosen:
        """Up to `limit` rows in the order of their seeds, families taking turns: as `tasks.selection.draw` does."""
        rank_of = np.argsort(np.argsort(np.array([*self._names], dtype=str))) if self._names else np.zeros(0, int)
        families = rank_of[np.frombuffer(self._families, np.int32)]
        entries = np.empty(len(families), ENTRY)
        entries["place"], entries["seed"] = self._places, self._seeds
        order = np.lexsort((entries["seed"], families))
        starts = np.searchsorted(families[order], np.arange(len(self._names)))
        turns = np.arange(len(order)) - starts[families[order]]
        return entries[order[np.lexsort((families[order], turns))[:limit]]]


class BestAnswers:
    """One row a prompt: the one whose rank is lowest."""

    def __init__(self) -> None:
        self._best: dict[str, tuple[tuple[Any, ...], Entry]] = {}

    def offer(self, prompt_id: str, rank: tuple[Any, ...], entry: Entry) -> bool:
        """Whether it is the prompt's first."""
        known = self._best.get(prompt_id)
        if known is None or rank < known[0]:
            self._best[prompt_id] = rank, entry
        return known is None

    def pool(self) -> Pool:
        pool = Pool()
        for _, entry in self._best.values():
            pool.add(*entry)
        return pool

    def best_first(self) -> Chosen:
        ranked = sorted(self._best.values())
        return np.array([(place, seed) for _, (place, seed, _) in ranked], ENTRY)


def in_proportion(weights: Mapping[str, float], available: Mapping[str, int]) -> dict[str, int]:
    """Rows of each weighted part: the shortest part whole, the others by their weights, largest remainders first.

    Raises InputError for a part without rows.
    """
    missing = [part for part in weights if not available[part]]
    if missing:
        raise InputError(
            f"mix.weights asks for {missing}, of which there are no rows; there are {dict(available)}",
            "give rows of them, or leave them out of mix.weights",
        )
    whole = sum(weights.values())
    total = min(int(available[part] * whole / weight + 1e-9) for part, weight in weights.items())
    exact = {part: total * weight / whole for part, weight in weights.items()}
    counts = {part: min(int(share + 1e-9), available[part]) for part, share in exact.items()}
    by_remainder = sorted(weights, key=lambda part: (counts[part] - exact[part], part))
    for part in by_remainder[: total - sum(counts.values())]:
        counts[part] += 1
    return counts
