"""What is kept of each row to find its near-duplicates: in files, so that any number of rows takes little memory.

R = rows, B = bands of a MinHash signature.
"""

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue] (compiled, no stubs)

from tasks.configs.mix import SimilarityConfig
from tasks.shingles import DIGEST_BYTES, Batch, Hashes, mixed

RowNumbers = NDArray[np.int64]
SHINGLES = "shingles"
READ_SHINGLES = 1 << 21


def bands_for(similarity: float, permutations: int) -> tuple[int, int]:
    """How many bands of how many hashes: the longest that find a pair of exactly this similarity with a chance of 99 %.

    Bands of r hashes each find a pair of similarity s with 1 - (1 - s^r)^bands; longer ones propose fewer others.
    """
    shapes = ((permutations // hashes, hashes) for hashes in range(permutations, 0, -1))
    sure = (shape for shape in shapes if 1 - (1 - similarity ** shape[1]) ** shape[0] >= 0.99)
    return next(sure, (permutations, 1))


def signatures(hashes: Hashes, ends_R: RowNumbers, permutations: int, seed: int) -> NDArray[np.uint32]:
    """rensa's MinHash signature of each row's hashes, [rows, permutations]."""
    offsets = np.concatenate([[0], ends_R]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, permutations, seed)
    flat = b"".join(array("I", row).tobytes() for row in matrix.to_rows())
    return np.frombuffer(flat, np.uint32).reshape(len(ends_R), permutations)


class SimilarityIndex:
    """Rows, numbered as they come: a digest of their words in memory; in files their shingles and, for each band of
    their signature, one number. Add them all, then ask; `folder` is the index's own.
    """

    def __init__(self, config: SimilarityConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.bands, self.hashes = bands_for(config.similarity, config.permutations)
        self._digests: list[bytes] = []
        self._ends: list[RowNumbers] = [np.zeros(1, np.int64)]

    def add(self, batch: Batch) -> None:
        self._digests.append(batch.digests())
        shingles, ends_R = batch.shingles(self.config.shingle_words)
        self._ends.append(ends_R + self._ends[-1][-1])
        if self.config.similarity == 1:
            return
        self._append(SHINGLES, shingles)
        found = signatures(shingles, ends_R, self.bands * self.hashes, self.config.seed)
        bands_RBH = found.reshape(batch.rows, self.bands, self.hashes).astype(np.uint64)
        numbers_RB = np.zeros(bands_RBH.shape[:2], np.uint64)
        for place in range(self.hashes):
            numbers_RB = mixed(numbers_RB ^ bands_RBH[:, :, place])
        for band in range(self.bands):
            self._append(f"band-{band}", numbers_RB[:, band])

    def bounds(self) -> RowNumbers:
        """Where each row's shingles start, and where the last's end; a row without words has none."""
        return np.concatenate(self._ends)

    def first_equals(self) -> RowNumbers:
        """The first row with the same words, for each row."""
        digests = np.frombuffer(b"".join(self._digests), np.uint64).reshape(-1, DIGEST_BYTES // 8)
        order = np.lexsort(digests.T)
        ordered = digests[order]
        new = np.ones(len(order), bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        first = np.empty(len(order), np.int64)
        first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
        return first

    def band(self, number: int) -> Hashes:
        """This band's number of every row."""
        return np.fromfile(self.folder / f"band-{number}", np.uint64)

    def open_shingles(self) -> int:
        """A file descriptor: 8 bytes for each shingle, row after row."""
        return os.open(self.folder / SHINGLES, os.O_RDONLY)

    def shingles(self) -> Iterator[tuple[Hashes, RowNumbers]]:
        """Of some rows at a time the shingles, and the row of each."""
        bounds, start = self.bounds(), 0
        with (self.folder / SHINGLES).open("rb") as file:
            while start < len(bounds) - 1:
                fitting = int(np.searchsorted(bounds, bounds[start] + READ_SHINGLES, side="right")) - 1
                end = max(start + 1, fitting)
                rows = np.repeat(np.arange(start, end), np.diff(bounds[start : end + 1]))
                yield np.fromfile(file, np.uint64, len(rows)), rows
                start = end

    def _append(self, name: str, values: Hashes) -> None:
        with (self.folder / name).open("ab") as file:
            values.tofile(file)
