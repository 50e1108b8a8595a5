"""What came of a source's records, shard by shard: counts, and what was left out. It outlives a killed attempt."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.output import Output
from tasks.dropped import dropped_row
from tasks.sources.base import BadRow

FILE = "ledger.json"
KEPT_PER_REASON = 200
"""Rows left out that are kept to be looked at, of each reason."""
SHOWN_CHARS = 2000


@dataclass
class Book:
    """Of some shards."""

    counts: Counter[str] = field(default_factory=Counter)
    """ "in", "kept", "dropped:<reason>", and "synthetic" of those kept."""
    licences: list[str] = field(default_factory=list)
    """Of the rows kept, sorted."""
    dropped: list[dict[str, Any]] = field(default_factory=list)
    """Entries of tasks/dropped.py."""
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    """Bad rows' file, row, byte, field and reason."""
    cut_off: list[dict[str, Any]] = field(default_factory=list)
    """Fields of CutOff, for each file that turned out to end in mid-record."""

    def drop(self, reason: str, messages: list[dict[str, str]], **known: str) -> None:
        """Count a row that is left out, and keep it while there are few of its kind."""
        self.counts[f"dropped:{reason}"] += 1
        if self.counts[f"dropped:{reason}"] <= KEPT_PER_REASON:
            shown = [{**message, "content": message["content"][:SHOWN_CHARS]} for message in messages]
            self.dropped.append(dropped_row(reason, shown, **known))

    def quarantine(self, bad: BadRow, file: str, text: str, family: str) -> None:
        """`file` is the bad row's, within its source; `text` is what could be read of it."""
        if self.counts["dropped:bad"] < KEPT_PER_REASON:
            place = {"file": file, "row": bad.place.row, "byte": bad.place.byte}
            self.quarantined.append(place | {"field": bad.field, "reason": bad.reason})
        where = f"{file}, row {bad.place.row}{f', field {bad.field!r}' if bad.field else ''}"
        self.drop("bad", [{"role": "user", "content": text}], family=family, detail=f"{where}: {bad.reason}")

    def keep(self, row: dict[str, Any]) -> None:
        self.counts["kept"] += 1
        self.counts["synthetic"] += bool(row["synthetic"])
        if row["licence"] not in self.licences:
            self.licences = sorted([*self.licences, row["licence"]])

    def add(self, other: "Book") -> None:
        """What came after."""
        for entry in other.dropped:
            if sum(mine["reason"] == entry["reason"] for mine in self.dropped) < KEPT_PER_REASON:
                self.dropped.append(entry)
        self.quarantined = [*self.quarantined, *other.quarantined][:KEPT_PER_REASON]
        self.cut_off = [*self.cut_off, *other.cut_off]
        self.licences = sorted({*self.licences, *other.licences})
        self.counts += other.counts


class Ledger:
    """Of all shards up to now. A shard's book is put before its rows: a kill between the two makes the shard again."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.book = Book()
        self.next_shard = 0
        found = output.last_checkpoint()
        if found is None:
            return
        saved = json.loads((found[1] / FILE).read_text(encoding="utf-8"))
        self.book, self.next_shard = _book(saved["before"]), saved["shard"]
        if output.has_shard(self.next_shard):
            self.book.add(_book(saved["last"]))
            self.next_shard += 1

    def put(self, shard: Book) -> None:
        """The next shard's book."""
        saved = {"before": vars(self.book), "last": vars(shard), "shard": self.next_shard}
        text = json.dumps(saved, ensure_ascii=False)
        self.next_shard += 1
        self.output.save_checkpoint(self.next_shard, lambda folder: _write(folder / FILE, text))
        self.book.add(shard)


def _book(saved: dict[str, Any]) -> Book:
    return Book(**{**saved, "counts": Counter(saved["counts"])})


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
