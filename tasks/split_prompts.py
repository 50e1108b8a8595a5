"""Prompts of all sources on two disjoint sides: for supervised tuning, and for preferences (paper, section 3.2).

Near-duplicates stay together, each family is balanced, and a prompt is on exactly one side. Only then do unsafe prompts
leave the supervised side; the preference side keeps them, for a refusal is learnt by comparison.

R = prompts, in the order of the input.
"""

from array import array
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from tasks.configs.mix import SplitPromptsConfig
from tasks.dropped import MOST, dropped_row, write_dropped
from tasks.near_duplicates import similar_groups
from tasks.rows import row_seed
from tasks.shingles import messages_of, read_batch
from tasks.similarity_index import RowNumbers, SimilarityIndex
from tasks.streams import ShardWriter, Source, batches, rows_in, schema_of, stream

SFT, PREFERENCE = "sft", "preference"


def run(config: SplitPromptsConfig, output: Output, rows: Source) -> Outcome:
    """The same PROMPT rows with `side` set, their ids unchanged. Raises EmptyDataset where a side gets no row."""
    schema, total = schema_of(rows), rows_in(rows)
    index = SimilarityIndex(config, output.scratch_folder())
    seeds, families = array("Q"), array("i")
    numbers: dict[str, int] = {}
    for batch in batches(rows):
        index.add(read_batch(batch))
        seeds.extend(row_seed(str(config.seed), row["id"]) for row in batch)
        families.extend(numbers.setdefault(row["family"] or "", len(numbers)) for row in batch)
        output.progress(len(seeds), 2 * total, "rows")
    groups_R = similar_groups(index)
    sft_R = take_sides(groups_R, np.array(seeds), np.array(families), config.sft_share)
    writer = SideWriter(config, output, schema)
    for number, (row, sft) in enumerate(zip(stream(rows), sft_R.tolist(), strict=True)):
        writer.take(row, SFT if sft else PREFERENCE)
        output.progress(total + number + 1, 2 * total, "rows")
    return writer.finish(groups_R)


def take_sides(
    groups_R: RowNumbers, seeds_R: NDArray[np.uint64], families_R: NDArray[np.int32], share: float
) -> NDArray[np.bool_]:
    """Which rows are for supervised tuning: each group on the side that keeps its families nearer to `share`.

    Large groups choose first, equally large ones in the order of their smallest seed, whatever the input's order.
    """
    sizes_R = np.bincount(groups_R)[groups_R]
    lowest = np.full(len(groups_R), np.iinfo(np.uint64).max)
    np.minimum.at(lowest, groups_R, seeds_R)
    order = np.lexsort((groups_R, lowest[groups_R], -sizes_R))
    bounds = np.flatnonzero(np.diff(groups_R[order], prepend=-1, append=-1)).tolist()
    sft_R = np.zeros(len(groups_R), bool)
    owed: defaultdict[int, float] = defaultdict(float)
    for start, end in pairwise(bounds):
        rows = order[start:end]
        found = Counter(families_R[rows].tolist())
        for family, count in found.items():
            owed[family] += share * count
        if sum((owed[family] - count) ** 2 for family, count in found.items()) <= sum(owed[f] ** 2 for f in found):
            sft_R[rows] = True
            for family, count in found.items():
                owed[family] -= count
    return sft_R


class SideWriter:
    """Rows with their side into shards, but for unsafe ones on the supervised side."""

    def __init__(self, config: SplitPromptsConfig, output: Output, schema: pa.Schema) -> None:
        self.config, self.output = config, output
        self.shards = ShardWriter(output, schema, config.shard_rows)
        self.families: dict[str, Counter[str]] = {SFT: Counter(), PREFERENCE: Counter()}
        self.unsafe: Counter[str] = Counter()
        self.dropped: list[dict[str, Any]] = []

    def take(self, row: dict[str, Any], side: str) -> None:
        self.unsafe[side] += bool(row["unsafe"])
        if row["unsafe"] and side == SFT:
            if len(self.dropped) < MOST:
                known = {name: row[name] or "" for name in ("family", "topic")}
                self.dropped.append(dropped_row("unsafe", messages_of(row), row_id=row["id"], **known))
        else:
            self.families[side][row["family"] or ""] += 1
            self.shards.add(row | {"side": side})

    def finish(self, groups_R: RowNumbers) -> Outcome:
        sizes = np.bincount(groups_R)
        groups = int((sizes > 0).sum())
        for side, families in self.families.items():
            if not families:
                raise EmptyDataset(
                    f"the {side} side gets none of {len(groups_R)} prompts, which are {groups} groups of "
                    f"near-duplicates; {self.unsafe[SFT]} unsafe ones were dropped from the sft side",
                    f"give more prompts, move split_prompts.sft_share (now {self.config.sft_share:g}) towards the "
                    f"middle, or raise split_prompts.similarity (now {self.config.similarity:g})",
                )
        self.shards.close()
        write_dropped(self.output, self.dropped)
        counts = {"in": len(groups_R), "kept": self.shards.rows, "dropped:unsafe": self.unsafe[SFT]}
        result = {
            "sides": {side: dict(sorted(families.items())) for side, families in self.families.items()},
            "unsafe_kept": self.unsafe[PREFERENCE],
            "groups": groups,
            "largest_group": int(sizes.max()),
        }
        metrics = {f"rows/{side}": float(families.total()) for side, families in self.families.items()}
        return Outcome(rows=self.shards.rows, counts=counts, metrics=metrics, result=result)
