"""How different the texts of a data set are from one another, as metrics for its manifest.

    distinct_1, _2, _3      part of all runs of n words that occur for the first time
    self_similarity         mean over rows of the largest similarity (MinHash estimate) to another row
    words_p10, _p50, _p90   words of a row
    families, topics        how many there are; families_x_topics: pairs of them that have a row

All but the last line is measured on at most `SAMPLE` rows, drawn by their ids: of larger sets it is the sample's value,
and two sets compare where both are larger, or of much the same size.
"""

from collections.abc import Iterable
from heapq import heappush, heappushpop
from itertools import count

import numpy as np

from tasks.rows import row_seed
from tasks.shingles import Batch, Row, read_batch, runs
from tasks.similarity_index import signatures

SAMPLE = 1000
PERMUTATIONS = 128
SHINGLE_WORDS = 3
LONGEST = 3


def measure_diversity(rows: Iterable[Row]) -> dict[str, float]:
    """Metrics, all named "diversity/…", of rows of any schema; none for no rows."""
    diversity = Diversity()
    for row in rows:
        diversity.add(row)
    return diversity.metrics()


class Diversity:
    """Fed row by row, in memory for `SAMPLE` of them."""

    def __init__(self) -> None:
        self._cells: set[tuple[str, str]] = set()
        self._numbers = count()
        self._sample: list[tuple[int, int, Row]] = []

    def add(self, row: Row) -> None:
        self._cells.add((row.get("family") or "", row.get("topic") or ""))
        entry = (-row_seed("diversity", row["id"]), next(self._numbers), row)
        if len(self._sample) < SAMPLE:
            heappush(self._sample, entry)
        elif entry[0] > self._sample[0][0]:
            heappushpop(self._sample, entry)

    def metrics(self) -> dict[str, float]:
        if not self._sample:
            return {}
        batch = read_batch([row for _, _, row in sorted(self._sample)])
        lengths = np.percentile(np.bincount(batch.row_W, minlength=batch.rows), [10, 50, 90]).tolist()
        values = {
            **distinct(batch),
            "self_similarity": self_similarity(batch),
            **dict(zip(("words_p10", "words_p50", "words_p90"), lengths, strict=True)),
            "families": float(len({family for family, _ in self._cells if family})),
            "topics": float(len({topic for _, topic in self._cells if topic})),
            "families_x_topics": float(sum(bool(family and topic) for family, topic in self._cells)),
        }
        return {f"diversity/{name}": value for name, value in values.items()}


def distinct(batch: Batch) -> dict[str, float]:
    found = {f"distinct_{length}": 0.0 for length in range(1, LONGEST + 1)}
    for length, hashes, inside in runs(batch.words_W, batch.text_W, LONGEST):
        found[f"distinct_{length}"] = len(np.unique(hashes[inside])) / max(1, int(inside.sum()))
    return found


def self_similarity(batch: Batch) -> float:
    """0 for a single row."""
    shingles, ends_R = batch.shingles(SHINGLE_WORDS)
    sketches = signatures(shingles, ends_R, PERMUTATIONS, seed=0)
    nearest = 0.0
    for number, sketch in enumerate(sketches):
        alike_R = (sketches == sketch).mean(axis=1)
        alike_R[number] = 0
        nearest += alike_R.max()
    return float(nearest / batch.rows)
