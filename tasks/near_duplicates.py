"""Texts whose word shingles are much the same: MinHash (rensa) finds candidates, exact Jaccard similarity decides.

A signature's hashes are cut into bands, and two texts that agree in all of one band are candidates. `NearDuplicates`
serves a pool that grows text by text, in memory; the functions serve all rows of an index at once.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from rensa import RMinHash, RMinHashLSH  # pyright: ignore[reportAttributeAccessIssue] (compiled, no stubs)

from tasks.configs.mix import SimilarityConfig
from tasks.neighbours import Neighbours
from tasks.shingles import Gram, grams_of, jaccard
from tasks.similarity_index import RowNumbers, SimilarityIndex, bands_for


class NearDuplicates:
    """Texts kept so far."""

    def __init__(self, config: SimilarityConfig) -> None:
        self.config = config
        bands, hashes = bands_for(config.similarity, config.permutations)
        self.permutations = bands * hashes
        self.lsh = RMinHashLSH(config.similarity, self.permutations, bands)
        self.shingles: list[set[Gram]] = []

    def _digest(self, shingles: Iterable[Gram]) -> RMinHash:
        digest = RMinHash(self.permutations, self.config.seed)
        digest.update([" ".join(gram) for gram in sorted(shingles)])
        return digest

    def has_similar(self, words: Sequence[str]) -> bool:
        shingles = grams_of(words, self.config.shingle_words)
        candidates = self.lsh.query(self._digest(shingles))
        return any(jaccard(shingles, self.shingles[key]) >= self.config.similarity for key in candidates)

    def add(self, words: Sequence[str]) -> None:
        shingles = grams_of(words, self.config.shingle_words)
        self.lsh.insert(len(self.shingles), self._digest(shingles))
        self.shingles.append(shingles)


def near_duplicates(index: SimilarityIndex, rows: RowNumbers) -> dict[int, int]:
    """Of rows in rising order, each that is similar to an earlier one that stays, with the first such."""
    found: dict[int, int] = {}
    if index.config.similarity == 1 or not len(rows):
        return found
    walk = Neighbours(index, rows)
    for row, looks, keeps in walk:
        match = next((other for other in walk.near(looks) if walk.similar(row, other)), None)
        if match is None:
            walk.keep(row, keeps)
        else:
            found[row] = match
    walk.close()
    return found


def similar_groups(index: SimilarityIndex) -> RowNumbers:
    """For every row the first of its group: equal rows, and rows linked by a chain of similar ones."""
    groups = index.first_equals()
    if index.config.similarity == 1 or not len(groups):
        return groups
    links: dict[int, int] = {}
    walk = Neighbours(index, np.flatnonzero(groups == np.arange(len(groups))))
    for row, looks, keeps in walk:
        for other in walk.near(looks):
            one, two = root_of(links, row), root_of(links, other)
            if one != two and walk.similar(row, other):
                links[max(one, two)] = min(one, two)
        walk.keep(row, keeps)
    walk.close()
    groups[list(links)] = list(links.values())
    while (groups[groups] != groups).any():
        groups = groups[groups]
    return groups


def root_of(links: dict[int, int], row: int) -> int:
    while row in links:
        row = links[row]
    return row
