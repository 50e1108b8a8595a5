"""Clean-up of prompts, answers or dialogues: equal rows, near-duplicates, and whatever overlaps with an exam item.

Two passes over the rows, a batch in memory at a time. The first reads their words: for near-duplicates
(tasks/near_duplicates.py) and for a suspicion of contamination (tasks/contamination.py). The second writes what stays.
Of equal or similar rows the first stays.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.errors import EmptyDataset, StageFailed
from infra.output import Outcome, Output
from tasks.configs.mix import DeduplicateConfig
from tasks.contamination import ExamIndex
from tasks.diversity import Diversity
from tasks.dropped import MOST, dropped_row, write_dropped
from tasks.near_duplicates import near_duplicates
from tasks.shingles import Row, messages_of, read_batch
from tasks.similarity_index import RowNumbers, SimilarityIndex
from tasks.streams import ShardWriter, Source, batches, rows_in, schema_of, stream

MOST_HITS = 10_000
"""Listed in hits.json; the count in the manifest is exact."""
FEWEST = 20
"""Rows from which on a large share of duplicates is a collapse."""
KEPT, NO_WORDS, EQUAL, NEAR_DUPLICATE = range(4)
REASONS = ("", "no_words", "equal", "near_duplicate")
REMEDIES = {
    "equal": "ask for more topics or a higher temperature",
    "near_duplicate": "raise deduplicate.similarity, or ask for more topics",
    "no_words": "look at the stage before: its texts are empty",
    "contaminated": "raise deduplicate.overlap or deduplicate.ngram_words, or change the topics",
}


def run(config: DeduplicateConfig, output: Output, rows: Source, evaluation_set: Source) -> Outcome:
    """Rows of any one schema in, the clean ones out, unchanged.

    Raises StageFailed where too many are duplicates, EmptyDataset when none is left.
    """
    schema = schema_of(rows)
    exam = ExamIndex(config, stream(evaluation_set))
    index = SimilarityIndex(config, output.scratch_folder())
    suspects_R = read_words(output, index, exam, rows)
    reasons_R, firsts_R = sort_out(index)
    refuse_collapse(config, reasons_R)
    cleaner = Cleaner(config, output, schema, exam, named_firsts(reasons_R, firsts_R))
    verdicts = zip(reasons_R.tolist(), firsts_R.tolist(), suspects_R.tolist(), strict=True)
    for number, (row, verdict) in enumerate(zip(stream(rows), verdicts, strict=True)):
        cleaner.take(number, row, *verdict)
    output.progress(len(reasons_R), len(reasons_R), "rows")
    return cleaner.finish(len(reasons_R))


def read_words(output: Output, index: SimilarityIndex, exam: ExamIndex, rows: Source) -> NDArray[np.bool_]:
    """Fill the index; returns which rows may be contaminated."""
    suspects, total, done = [np.zeros(0, bool)], rows_in(rows), 0
    for found in batches(rows):
        batch = read_batch(found)
        index.add(batch)
        suspects.append(exam.suspects(batch))
        done += batch.rows
        output.progress(done, 2 * total, "rows")
    return np.concatenate(suspects)


def sort_out(index: SimilarityIndex) -> tuple[NDArray[np.int8], RowNumbers]:
    """For each row why it goes (KEPT where it stays), and the row that stays instead of it."""
    firsts_R = index.first_equals()
    everyone_R = np.arange(len(firsts_R))
    reasons_R = np.where(firsts_R == everyone_R, KEPT, EQUAL).astype(np.int8)
    reasons_R[np.diff(index.bounds()) == 0] = NO_WORDS
    near = near_duplicates(index, np.flatnonzero(reasons_R == KEPT))
    reasons_R[list(near)] = NEAR_DUPLICATE
    stays_R = everyone_R.copy()
    stays_R[list(near)] = list(near.values())
    return reasons_R, stays_R[firsts_R]


def refuse_collapse(config: DeduplicateConfig, reasons_R: NDArray[np.int8]) -> None:
    equal, near = (int((reasons_R == reason).sum()) for reason in (EQUAL, NEAR_DUPLICATE))
    share = (equal + near) / max(1, len(reasons_R))
    if len(reasons_R) >= FEWEST and share > config.max_duplicate_share:
        raise StageFailed(
            f"the rows have collapsed: {equal} equal and {near} near-duplicates of {len(reasons_R)} rows are "
            f"{share:.0%}, more than deduplicate.max_duplicate_share = {config.max_duplicate_share:g}",
            "ask the stage before for more variety (topics, temperature), raise deduplicate.similarity (now "
            f"{config.similarity:g}), or raise deduplicate.max_duplicate_share to train on what is left",
        )


def named_firsts(reasons_R: NDArray[np.int8], firsts_R: RowNumbers) -> set[int]:
    """Rows that stay and are named where others are listed as dropped."""
    return {int(row) for reason in (EQUAL, NEAR_DUPLICATE) for row in firsts_R[reasons_R == reason][:MOST]}


def empty(total: int, counts: Mapping[str, int]) -> EmptyDataset:
    """The error that names what was lost where, and the setting that lost most."""
    lost = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    worst = max(counts, key=lambda reason: counts[reason], default="")
    remedy = REMEDIES.get(worst, "look at the stage before: it made no rows")
    return EmptyDataset(f"no row is left of {total}: {lost or 'none came in'}", remedy)


class Cleaner:
    """The second pass: rows to shards, or to the list of what was dropped."""

    def __init__(
        self, config: DeduplicateConfig, output: Output, schema: pa.Schema, exam: ExamIndex, named: set[int]
    ) -> None:
        self.output, self.exam, self.named = output, exam, named
        self.shards = ShardWriter(output, schema, config.shard_rows)
        self.diversity = Diversity()
        self.ids: dict[int, str] = {}
        self.counts: Counter[str] = Counter()
        self.dropped: list[dict[str, Any]] = []
        self.hits: list[dict[str, Any]] = []

    def take(self, number: int, row: dict[str, Any], reason: int, first: int, suspect: bool) -> None:
        if number in self.named:
            self.ids[number] = row["id"]
        if reason != KEPT:
            self._drop(row, REASONS[reason], self.ids.get(first, ""))
        elif suspect and (hit := self.exam.hit(row)):
            self._drop(row, "contaminated", f"{hit['item_id']}: {hit['ngram']}")
            if len(self.hits) < MOST_HITS:
                self.hits.append({"row_id": row["id"], **hit})
        else:
            self.shards.add(row)
            self.diversity.add(row)

    def _drop(self, row: Row, reason: str, detail: str) -> None:
        self.counts[reason] += 1
        if self.counts[reason] <= MOST:
            known = {name: row.get(name) or "" for name in ("family", "topic")}
            self.dropped.append(dropped_row(reason, messages_of(row), row_id=row["id"], detail=detail, **known))

    def finish(self, total: int) -> Outcome:
        counts = {reason: self.counts[reason] for reason in REMEDIES if self.counts[reason]}
        kept = self.shards.rows
        if not kept:
            raise empty(total, counts)
        self.shards.close()
        self.output.write_json("hits.json", self.hits)
        write_dropped(self.output, self.dropped)
        return Outcome(
            rows=kept,
            counts={"in": total, "kept": kept, **{f"dropped:{reason}": count for reason, count in counts.items()}},
            metrics={"kept_share": kept / total, **self.diversity.metrics()},
        )
