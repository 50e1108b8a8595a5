"""Rows from outside: a public data set that the user has a copy of, or the user's own file (docs/data.md).

    file → records → rows → licence, length and language → shards; what is bad stops the stage or is listed apart

A killed stage reads over the records of the shards that are there and goes on with the next.
"""

import importlib
import json
import pkgutil
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from infra.errors import EmptyDataset, InputError
from infra.output import Outcome, Output
from tasks import sources
from tasks.configs.sources import SourceConfig
from tasks.dropped import write_dropped
from tasks.sources.base import SCHEMAS
from tasks.sources.json_records import CutOff
from tasks.sources.ledger import Book, Ledger
from tasks.sources.sifting import Sieve, Source
from tasks.tallies import told

for _module in pkgutil.iter_modules(sources.__path__):
    importlib.import_module(f"{sources.__name__}.{_module.name}")

QUARANTINE = "quarantine.jsonl"
CHECKED_RECORDS = 50
PLACES_TOLD = 3
LOOSEN = {
    "bad": "look whether the file is what the reader {reader} reads, or correct the rows",
    "licence": "licences={licences} keeps what is under one of these: name others, or state the data's in licence",
    "language": "name more languages than {languages}, or none for all",
    "too_short": "lower min_chars (now {min_chars})",
    "too_long": "raise max_chars (now {max_chars})",
    "passed_over": "give a file with other records: the reader passes such records over",
}
"""What to change, by the filter that leaves most rows out."""


def run(config: SourceConfig, output: Output) -> Outcome:
    """Rows of the use's schema, with dropped.parquet and, for bad rows, quarantine.jsonl beside them.

    Raises InputError for a source that changed since the plan was made or while it was read, for a bad row or a file
    cut off where bad_rows is "fail", for too many bad rows, and for a file that cannot be read; EmptyDataset where the
    filters leave no row.
    """
    planned = config.digest or config.current_digest()
    check_digest(config, planned)
    source, ledger = Source(config), Ledger(output)
    sieve = Sieve(source, (row["id"] for shard in range(ledger.next_shard) for row in output.read_shard(shard)))
    shards = enumerate(parts(source.items(), config.shard_rows))
    while ledger.book.counts["kept"] < config.max_rows and (found := next(shards, None)):
        number, shard = found
        if number < ledger.next_shard:
            deque(shard, maxlen=0)
            continue
        rows, book = sieve.rows_of(shard, config.max_rows - ledger.book.counts["kept"])
        ledger.put(book)
        output.write_shard(number, rows, SCHEMAS[source.use])
        output.progress(ledger.book.counts["kept"], None, "rows")
    check_digest(config, planned)
    refuse(source, ledger.book)
    tell(source, output, ledger.book)
    return outcome(source, ledger.book)


def check_digest(config: SourceConfig, planned: str) -> None:
    """Raises InputError where the source is another than the artifact's fingerprint says."""
    found = config.current_digest()
    if found != planned:
        raise InputError(
            f"{config.path}: its digest is {found}, expected {planned}",
            "it changed since the plan was made; run again to plan with what is there now",
        )


def check_source(config: SourceConfig) -> int:
    """Rows that the first records make, so that a wrong file or reader shows before anything is started.

    Raises InputError as `run` does; where bad rows are put up with, only if all of the first ones are bad.
    """
    source = Source(config)
    rows, book = Sieve(source).rows_of(islice(source.items(), CHECKED_RECORDS), config.max_rows)
    if not book.counts["in"]:
        raise InputError(f"{config.path}: no row in it", "give a file with rows")
    if book.counts["dropped:bad"] == book.counts["in"]:
        raise InputError(f"{config.path}: its first rows are all bad: {first_bad(book)}", _another_reader(config))
    return len(rows)


def parts(items: Iterator[Any], size: int) -> Iterator[Iterator[Any]]:
    """`size` items each, the last perhaps fewer; each has to be used up before the next."""
    for first in items:
        yield chain([first], islice(items, size - 1))


def refuse(source: Source, book: Book) -> None:
    """Raises InputError for too many bad rows, EmptyDataset for no row."""
    config, counts = source.config, book.counts
    bad, total = counts["dropped:bad"], counts["in"]
    if bad > config.max_bad_share * total:
        raise InputError(
            f"{config.path}: {bad} of {total} rows are bad ({bad / total:.2%}), more than max_bad_share="
            f"{config.max_bad_share}: {first_bad(book)}",
            f"{_another_reader(config)}, or raise max_bad_share",
        )
    if not counts["kept"]:
        reasons = dropped(book)
        most = max(reasons, key=lambda reason: reasons[reason], default="")
        raise EmptyDataset(
            f"{config.path}: none of {total} rows is kept: {told(reasons) or 'it holds no row'}",
            LOOSEN.get(most, "give a file with rows").format(**config.model_dump()),
        )


def tell(source: Source, output: Output, book: Book) -> None:
    """What was left out: in the log and in files beside the rows."""
    if source.left_out:
        output.say(f"{len(source.left_out)} files of a test split are not read, the first: {source.left_out[0].name}")
    for cut in book.cut_off:
        output.say(str(CutOff(**cut)))
    kept, total = book.counts["kept"], book.counts["in"]
    output.say(f"{source.reader.name}: {kept} of {total} rows kept; dropped: {told(dropped(book)) or 'none'}")
    output.progress(kept, kept, "rows")
    write_dropped(output, book.dropped)
    if book.quarantined:
        lines = [json.dumps(entry, ensure_ascii=False, sort_keys=True) for entry in book.quarantined]
        output.write_text(QUARANTINE, "\n".join(lines) + "\n")


def outcome(source: Source, book: Book) -> Outcome:
    result = {"source": source.reader.name, "use": source.use, "licences": book.licences, "cut_off": book.cut_off,
              "synthetic": book.counts["synthetic"]}  # fmt: skip
    counts = {"in": book.counts["in"], "kept": book.counts["kept"]}
    counts |= {f"dropped:{reason}": count for reason, count in dropped(book).items()}
    return Outcome(rows=counts["kept"], counts=counts, result=result)


def dropped(book: Book) -> dict[str, int]:
    """Counts by reason."""
    return {name.removeprefix("dropped:"): n for name, n in book.counts.items() if name.startswith("dropped:")}


def first_bad(book: Book) -> str:
    """Where the first bad rows stand and what is wrong with them."""
    return "; ".join([entry["detail"] for entry in book.dropped if entry["reason"] == "bad"][:PLACES_TOLD])


def _another_reader(config: SourceConfig) -> str:
    return f"look whether the file is what the reader {config.reader!r} reads, correct the rows"
