"""From records to finished rows: the reader's rows with id, family and provenance, as far as the filters let them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from infra.errors import InputError
from tasks.configs.sources import SourceConfig, Use
from tasks.rows import ATTRIBUTES, make_row
from tasks.sources.base import READERS, SCHEMAS, BadRow, Record
from tasks.sources.files import read_file
from tasks.sources.json_records import CutOff, Item
from tasks.sources.language import language_of
from tasks.sources.ledger import Book
from tasks.sources.places import files_to_read

Row = dict[str, Any]

CONTENT = ("messages", "verifier", "prompt", "chosen", "rejected", "response", *ATTRIBUTES, "text")
"""Columns that a row's id is made of, where its schema has them."""


class Source:
    """A reader, what it reads for, and the files. Raises InputError where they don't go together."""

    def __init__(self, config: SourceConfig) -> None:
        self.config, self.reader = config, READERS[config.reader]
        self.use: Use = config.use or self.reader.use
        if self.use not in self.reader.uses:
            raise InputError(
                f"source {config.reader!r} has no rows for use={config.use!r}", f"use {' or '.join(self.reader.uses)}"
            )
        self.files, self.left_out = files_to_read(config.path, self.reader.files)
        self.names = {file.location: file.name for file in self.files}
        """Of the files within the source: rows hold no place of this machine."""

    def items(self) -> Iterator[Item]:
        """Records of all files, what is broken among them, and where files are cut off."""
        for file in self.files:
            yield from read_file(file, self.use)


class Sieve:
    """Turns records into rows, and says in a book what became of each."""

    def __init__(self, source: Source, seen: Iterable[str] = ()) -> None:
        self.source, self.config, self.reader = source, source.config, source.reader
        self.family = source.config.family or source.reader.name
        self.seen = {*seen}
        """Ids of the rows that are there."""

    def rows_of(self, items: Iterable[Item], most: int) -> tuple[list[Row], Book]:
        """At most `most` rows, with nothing read after them. Raises InputError for a bad row or a file cut off where
        bad_rows is "fail".
        """
        rows: list[Row] = []
        book = Book()
        for item in items:
            for row in self._read(item, book):
                book.counts["in"] += 1
                language = row.pop("language", "")
                finished = self._finished(row)
                if reason := self._refusal(finished, language):
                    book.drop(reason, messages_of(finished), row_id=finished["id"], family=self.family)
                else:
                    self.seen.add(finished["id"])
                    book.keep(finished)
                    rows.append(finished)
                if len(rows) == most:
                    return rows, book
        return rows, book

    def _read(self, item: Item, book: Book) -> list[Row]:
        """The reader's rows of one record; a record that gives none counts as passed over."""
        if isinstance(item, CutOff):
            if self.config.bad_rows == "fail":
                raise InputError(str(item), "get the file again, or keep its whole rows with bad_rows=quarantine")
            book.cut_off.append(asdict(item) | {"file": self.source.names[item.file]})
            return []
        try:
            if isinstance(item, BadRow):
                raise item
            made = [*self.reader.read(item)]
        except BadRow as bad:
            if self.config.bad_rows == "fail":
                raise InputError(str(bad), "correct the row, or leave such rows out with bad_rows=quarantine") from bad
            book.counts["in"] += 1
            text = json.dumps(item.value, ensure_ascii=False, default=str) if isinstance(item, Record) else ""
            book.quarantine(bad, self.source.names[bad.place.file], text, self.family)
            return []
        if not made:
            book.counts["in"] += 1
            book.counts["dropped:passed_over"] += 1
        return made

    def _finished(self, row: Row) -> Row:
        """With id, family and provenance; the settings say more than the row, the row more than the reader."""
        schema, reader = SCHEMAS[self.source.use], self.reader
        values: Row = {"source": reader.name, "licence": reader.licence, "synthetic": reader.synthetic, "generator": ""}
        values |= ({"family": self.family} if "family" in schema.names else {}) | row
        values["licence"] = self.config.licence or values["licence"]
        if self.config.synthetic is not None:
            values["synthetic"] = self.config.synthetic
        return make_row(schema, values, {name: values[name] for name in CONTENT if name in values})

    def _refusal(self, row: Row, language: str) -> str:
        """Which filter leaves the row out, "" for none. `language` is what the data set says."""
        config = self.config
        if config.licences and row["licence"] not in config.licences:
            return "licence"
        text = "\n".join(message["content"] for message in messages_of(row))
        if len(text) < config.min_chars:
            return "too_short"
        if len(text) > config.max_chars:
            return "too_long"
        if config.languages and (language or language_of(text)) not in config.languages:
            return "language"
        return "duplicate" if row["id"] in self.seen else ""


def messages_of(row: Row) -> list[dict[str, str]]:
    """All that a row of any schema says."""
    if "text" in row:
        return [{"role": "user", "content": row["text"]}]
    said = [message for name in ("messages", "prompt", "chosen", "rejected") for message in row.get(name) or []]
    return [*said, {"role": "assistant", "content": row["response"]}] if "response" in row else said
