"""Counts of rows kept and dropped, by shard, and what was dropped. They outlive a killed attempt as its shards do."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from infra.output import Output
from tasks.dropped import Entry, first_of_each

COUNTS, DROPPED = "tallies.json", "dropped.json"
"""Of a resume point, not of the artifact."""


class Tallies:
    """Put a shard's counts before its rows: a kill between the two makes the shard again, and counts it once.

    Of what was dropped, the first entries of each reason are kept (tasks/dropped.py).
    """

    def __init__(self, output: Output) -> None:
        self.output = output
        found = output.last_checkpoint()
        self.by_shard: dict[str, dict[str, int]] = json.loads((found[1] / COUNTS).read_text()) if found else {}
        self._dropped: dict[str, list[Entry]] = (
            json.loads((found[1] / DROPPED).read_text(encoding="utf-8")) if found else {}
        )

    def put(self, shard: int, counts: Mapping[str, int], dropped: Sequence[Entry] = ()) -> None:
        self.by_shard[str(shard)] = dict(counts)
        self._dropped.pop(str(shard), None)
        self._dropped[str(shard)] = first_of_each(dropped, Counter(entry["reason"] for entry in self.dropped()))
        self.output.save_checkpoint(shard + 1, self._write)

    def total(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for counts in self.by_shard.values():
            total.update(counts)
        return total

    def dropped(self) -> list[Entry]:
        """In the order of the shards."""
        return [*chain.from_iterable(self._dropped[shard] for shard in sorted(self._dropped, key=int))]

    def _write(self, folder: Path) -> None:
        (folder / COUNTS).write_text(json.dumps(self.by_shard, sort_keys=True))
        (folder / DROPPED).write_text(json.dumps(self._dropped, ensure_ascii=False), encoding="utf-8")


def told(counts: Mapping[str, int]) -> str:
    """Counts on one line, the largest first, for logs and errors."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
