"""Counts of rows kept and dropped, by shard. They outlive a killed attempt as its shards do."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from infra.output import Output

FILE = "tallies.json"


class Tallies:
    """Put a shard's counts before its rows: a kill between the two makes the shard again, and counts it once."""

    def __init__(self, output: Output) -> None:
        self.output = output
        found = output.last_checkpoint()
        self.by_shard: dict[str, dict[str, int]] = json.loads((found[1] / FILE).read_text()) if found else {}

    def put(self, shard: int, counts: Mapping[str, int]) -> None:
        self.by_shard[str(shard)] = dict(counts)
        self.output.save_checkpoint(shard + 1, self._write)

    def total(self) -> Counter[str]:
        return sum((Counter(counts) for counts in self.by_shard.values()), Counter())

    def _write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(self.by_shard, sort_keys=True))


def told(counts: Mapping[str, int]) -> str:
    """Counts on one line, the largest first, for logs and errors."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
