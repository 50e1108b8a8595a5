"""Records of any file that a source may be: JSON, Parquet, CSV, TSV or plain text, streamed in bounded memory."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from io import BufferedIOBase
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import InputError
from tasks.configs.sources import Use
from tasks.sources.base import BadRow, Place, Record
from tasks.sources.json_records import LONGEST, UNREADABLE, CutOff, Item, json_records
from tasks.sources.places import SourceFile

BATCH_ROWS = 256
csv.field_size_limit(LONGEST)


def read_file(file: SourceFile, use: Use) -> Iterator[Item]:
    """A file's records in order, what is broken among them, and perhaps that it is cut off.

    Raises InputError for a file that holds nothing readable.
    """
    with file.open() as stream:
        for item in _items(stream, file):
            yield replace(item, name=file.place, use=use) if isinstance(item, Record) else item


def _items(stream: BufferedIOBase, file: SourceFile) -> Iterator[Item]:
    if file.suffix in (".jsonl", ".json"):
        return json_records(stream, file.location, lines=file.suffix == ".jsonl")
    if file.suffix == ".parquet":
        return _parquet_records(stream, file.location)
    if file.suffix in (".csv", ".tsv"):
        return _table_records(stream, file.location, tabs=file.suffix == ".tsv")
    return _text_record(stream, file.location)


def _parquet_records(stream: BufferedIOBase, file: str) -> Iterator[Item]:
    row = 0
    try:
        for batch in pq.ParquetFile(stream).iter_batches(batch_size=BATCH_ROWS):
            yield from _batch_records(batch, file, row)
            row += len(batch)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{file}: no Parquet that can be read after row {row}: {error}",
            "a Parquet file that was cut off cannot be read at all: get it again",
        ) from error


def _batch_records(batch: pa.RecordBatch, file: str, before: int) -> Iterator[Item]:
    """Each row by itself where one has what Python cannot hold: no UTF-8, or a time out of its range."""
    places = [Place(file, before + number) for number in range(1, len(batch) + 1)]
    try:
        yield from map(Record, batch.to_pylist(), places)
        return
    except (ValueError, OverflowError) as error:
        if len(batch) == 1:
            yield BadRow(places[0], "", f"no values that can be read: {error}")
            return
    for number in range(len(batch)):
        yield from _batch_records(batch.slice(number, 1), file, before + number)


def _table_records(stream: BufferedIOBase, file: str, *, tabs: bool) -> Iterator[Item]:
    """Rows by their header; empty lines are none. TSV has no quotes (IANA's text/tab-separated-values), CSV is read
    strictly. Raises InputError for a header that cannot be read or has a name twice.
    """
    text = io.TextIOWrapper(cast(BinaryIO, stream), encoding="utf-8-sig", errors="surrogateescape", newline="")
    rows = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(text, strict=True)
    try:
        header = next(filter(None, rows), [])
    except (csv.Error, *UNREADABLE) as error:
        remedy = "give a table whose first row names its columns"
        raise InputError(f"{file}: no header that can be read: {error}", remedy) from error
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"{file}: columns of the same name: {', '.join(repeated)}", "name each column differently")
    for row in range(1, 1 << 62):
        place = Place(file, row)
        try:
            if cells := next(rows):
                yield _table_record(header, cells, place)
        except StopIteration:
            return
        except csv.Error as error:
            if str(error) == "unexpected end of data":
                yield CutOff(file, row, None, stream.tell(), "a quoted field has no end")
                return
            yield BadRow(place, "", f"no CSV: {error}")
        except UNREADABLE as error:
            yield CutOff(file, row, None, stream.tell(), str(error))
            return


def _table_record(header: list[str], cells: list[str], place: Place) -> Item:
    if len(cells) != len(header):
        return BadRow(place, "", f"found {len(cells)} columns, expected {len(header)}: {', '.join(header)}")
    value = dict(zip(header, cells, strict=True))
    for name, cell in value.items():
        if any("\udc80" <= letter <= "\udcff" for letter in cell):
            return BadRow(place, name, f"found {cell[:80]!r}, which is no UTF-8")
    return Record(value, place)


def _text_record(stream: BufferedIOBase, file: str) -> Iterator[Item]:
    """The whole file, as one text."""
    place = Place(file, 1, 0)
    try:
        raw: Any = stream.read(LONGEST + 1)
    except UNREADABLE as error:
        yield CutOff(file, 1, 0, stream.tell(), str(error))
        return
    if len(raw) > LONGEST:
        yield BadRow(place, "", f"found more than {LONGEST} bytes, expected one document a file")
        return
    try:
        yield Record(raw.decode("utf-8-sig"), place)
    except UnicodeDecodeError as error:
        yield BadRow(place, "", f"byte {error.start} is no UTF-8 ({error.reason})")
