"""Which rows may be near-duplicates: those that meet in a bucket.

A bucket holds the rows that agree in one band of their MinHash signatures. Rows of one template agree in many bands
without being near-duplicates, and every pair of such a crowd would be a candidate. They meet where they share a rare
shingle instead, as near-duplicates do: two rows of a <= b shingles and similarity s share at least s * b of them, and
2s / (1 + s) * a. So, by any order of all shingles, one of those that they share is among the first b - s * b + 1 of the
one, its leading shingles, and among the first a - 2s / (1 + s) * a + 1 of the other, its foremost.

M = memberships, S = shingles.
"""

import os
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.shingles import Hashes
from tasks.similarity_index import RowNumbers, SimilarityIndex

Keys = NDArray[np.int64]
"""Memberships as row << 32 | bucket."""

CROWD = 32
"""Rows that a band's bucket may hold."""
RARITY_BITS = 22
REMEMBERED_BYTES = 256 << 20
"""Of shingles that were read and may be asked for again."""
ARRAY_BYTES = 256
"""What a remembered row takes besides its shingles."""
BUCKET = (1 << 32) - 1


class Neighbours:
    """Walk over those of some rows, in rising order, that meet others; `near` are those before that were `keep`t."""

    def __init__(self, index: SimilarityIndex, rows: RowNumbers) -> None:
        self.similarity, self.bounds = index.config.similarity, index.bounds()
        self.file = index.open_shingles()
        self.looks_M, self.keeps_M, buckets = meetings(index, rows)
        sizes = np.bincount(self.keeps_M & BUCKET, minlength=buckets)
        self.starts = array("q", (np.cumsum(sizes) - sizes).tobytes())
        self.ends = self.starts[:]
        self.members = array("i", bytes(4 * len(self.keeps_M)))
        self.remembered: dict[int, Hashes] = {}
        self.remembered_bytes = 0

    def __iter__(self) -> Iterator[tuple[int, list[int], list[int]]]:
        """Each row with the buckets to look in and those to be kept in."""
        rows = np.unique(self.looks_M >> 32)
        bounds = np.append(rows, rows[-1:] + 1) << 32
        looks, keeps = (np.searchsorted(keys, bounds).tolist() for keys in (self.looks_M, self.keeps_M))
        for number, row in enumerate(rows.tolist()):
            looked = self.looks_M[looks[number] : looks[number + 1]] & BUCKET
            kept = self.keeps_M[keeps[number] : keeps[number + 1]] & BUCKET
            yield row, looked.tolist(), kept.tolist()

    def near(self, buckets: Iterable[int]) -> list[int]:
        """Candidates among the kept rows, in rising order."""
        found: set[int] = set()
        for bucket in buckets:
            found.update(self.members[self.starts[bucket] : self.ends[bucket]])
        return sorted(found)

    def keep(self, row: int, buckets: Iterable[int]) -> None:
        for bucket in buckets:
            self.members[self.ends[bucket]] = row
            self.ends[bucket] += 1

    def similar(self, one: int, other: int) -> bool:
        return jaccard(self.shingles(one), self.shingles(other)) >= self.similarity

    def shingles(self, row: int) -> Hashes:
        """A row's different shingles in rising order. Those asked for longest ago are forgotten first."""
        found = self.remembered.pop(row, None)
        if found is None:
            found = self._read(row)
            self.remembered_bytes += found.nbytes + ARRAY_BYTES
        self.remembered[row] = found
        while self.remembered_bytes > REMEMBERED_BYTES:
            oldest = next(iter(self.remembered))
            self.remembered_bytes -= self.remembered.pop(oldest).nbytes + ARRAY_BYTES
        return found

    def close(self) -> None:
        os.close(self.file)

    def _read(self, row: int) -> Hashes:
        start, end = self.bounds[row : row + 2].tolist()
        return np.unique(np.frombuffer(os.pread(self.file, 8 * (end - start), 8 * start), np.uint64))


def jaccard(one: Hashes, other: Hashes) -> float:
    """As of sets; of different shingles in rising order."""
    few, many = (one, other) if len(one) <= len(other) else (other, one)
    shared = int(np.count_nonzero(many.take(many.searchsorted(few), mode="clip") == few)) if len(few) else 0
    return shared / max(1, len(one) + len(other) - shared)


def meetings(index: SimilarityIndex, rows: RowNumbers) -> tuple[Keys, Keys, int]:
    """In which buckets each row looks for others, in which it is kept, both by row; and how many buckets there are."""
    looks: list[Keys] = [np.zeros(0, np.int64)]
    buckets, crowded = 0, np.zeros(len(index.bounds()), bool)
    for band in range(index.bands):
        order, sizes = alike(index.band(band)[rows])
        shared = (sizes > 1) & (sizes <= CROWD)
        members = order[np.repeat(shared, sizes)]
        looks.append((rows[members] << 32) | np.repeat(np.arange(shared.sum()) + buckets, sizes[shared]))
        buckets += int(shared.sum())
        crowded[rows[order[np.repeat(sizes > CROWD, sizes)]]] = True
    keeps = [*looks]
    if crowded.any():
        more_looks, more_keeps, more = rare_meetings(*leading_shingles(index, crowded))
        looks.append(more_looks + buckets)
        keeps.append(more_keeps + buckets)
        buckets += more
    return np.sort(np.concatenate(looks)), np.sort(np.concatenate(keeps)), buckets


def alike(numbers: Hashes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places in the order of their numbers, and how many times each number comes."""
    order = np.argsort(numbers, kind="stable")
    changes = np.flatnonzero(numbers[order[1:]] != numbers[order[:-1]]) + 1
    return order, np.diff(changes, prepend=0, append=len(numbers))


def rare_meetings(shingles: Hashes, rows: RowNumbers, foremost: NDArray[np.bool_]) -> tuple[Keys, Keys, int]:
    """As `meetings`. Of each shingle one bucket keeps all rows, and the next those of which it is a foremost one.

    A row looks in the first for its foremost shingles and in the second for its other leading ones.
    """
    order, sizes = alike(shingles)
    rows, foremost = rows[order], foremost[order]
    buckets = np.repeat(2 * np.arange(len(sizes)), sizes)
    meets = np.repeat((sizes > 1) & (np.bincount(buckets[foremost] // 2, minlength=len(sizes)) > 0), sizes)
    looks = (rows << 32) | (buckets + ~foremost)
    keeps = (rows << 32) | buckets
    return looks[meets], np.concatenate([keeps[meets], keeps[meets & foremost] + 1]), 2 * len(sizes)


def leading_shingles(
    index: SimilarityIndex, crowded: NDArray[np.bool_]
) -> tuple[Hashes, RowNumbers, NDArray[np.bool_]]:
    """Of each crowded row its leading shingles, rare ones first; the row of each; and whether it is a foremost one.

    How often shingles occur is counted by a part of their bits, for equal ones alike, so that all rows have one order.
    """
    counts = np.zeros(1 << RARITY_BITS, np.int64)
    for found_S, _ in index.shingles():
        counts += np.bincount(slots(found_S), minlength=len(counts))
    parts = []
    for found_S, rows_S in index.shingles():
        found_S, rows_S = found_S[crowded[rows_S]], rows_S[crowded[rows_S]]
        order = np.lexsort((found_S, counts[slots(found_S)], rows_S))
        found_S, rows_S = found_S[order], rows_S[order]
        new_S = np.ones(len(order), bool)
        new_S[1:] = (found_S[1:] != found_S[:-1]) | (rows_S[1:] != rows_S[:-1])
        found_S, rows_S = found_S[new_S], rows_S[new_S]
        place_S, size_S = places_in_rows(rows_S)
        similarity = index.config.similarity
        leading_S = place_S < size_S - at_least(similarity * size_S) + 1
        foremost_S = place_S < size_S - at_least(2 * similarity / (1 + similarity) * size_S) + 1
        parts.append((found_S[leading_S], rows_S[leading_S], foremost_S[leading_S]))
    shingles, owners, foremost = (np.concatenate(part) for part in zip(*parts, strict=True))
    return shingles, owners, foremost


def places_in_rows(rows_S: RowNumbers) -> tuple[RowNumbers, RowNumbers]:
    """The place of each shingle in its row, from 0 on, and how many the row has."""
    sizes = np.unique(rows_S, return_counts=True)[1]
    starts = np.cumsum(sizes) - sizes
    return np.arange(len(rows_S)) - np.repeat(starts, sizes), np.repeat(sizes, sizes)


def at_least(shared: NDArray[np.floating[Any]]) -> RowNumbers:
    """The whole number of shared shingles; rounding errors never make it one more."""
    return np.ceil(shared - 1e-6).astype(np.int64)


def slots(hashes: Hashes) -> NDArray[np.intp]:
    return (hashes >> np.uint64(64 - RARITY_BITS)).astype(np.intp)
