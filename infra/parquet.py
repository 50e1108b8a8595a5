"""Rows to Parquet bytes and back. The same rows give the same bytes: settings are fixed and nothing here is a clock."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import InputError

SCHEMA_KEY = b"ratchet.schema"
KNOWN_MAJOR = "1"
ROW_GROUP_ROWS = 4096
MISFITS = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError, TypeError)


def to_parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """Parquet bytes, zstd with page checksums; InputError names the row that does not fit the schema."""
    names, nested = set(schema.names), [field for field in schema if pa.types.is_nested(field.type)]
    for number, row in enumerate(rows):
        if set(row) != names:
            raise InputError(
                f"row {number}: missing columns {sorted(names - set(row))}, unknown columns {sorted(set(row) - names)}",
                f"give exactly the schema's columns: {schema.names}",
            )
        for field in nested:
            _check_structs(row[field.name], field.type, f"row {number}, column {field.name!r}")
    try:
        table = pa.Table.from_pylist([*rows], schema=stored_schema(schema))
    except MISFITS as error:
        raise InputError(_misfit(rows, schema) or f"rows do not fit the schema: {error}", "check its types") from error
    return _encode(table)


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` as it comes back from a file: Parquet calls a list's items "element", pyarrow "item"."""
    fields = [field.with_type(_stored_type(field.type)) for field in schema]
    return pa.schema(fields, metadata=schema.metadata)


def is_whole(data: bytes) -> bool:
    """Whether `to_parquet` wrote exactly these bytes: decoding and encoding gives them again.

    Page checksums leave the page headers out, so that a few changed bits would go unseen by reading alone.
    """
    try:
        return _encode(_open(data).read()) == data
    except (pa.ArrowException, OSError, ValueError, MemoryError):
        return False


def open_parquet(data: bytes) -> pq.ParquetFile:
    """Raises pyarrow's ArrowInvalid for broken bytes, InputError for a schema of an unknown major version."""
    file = _open(data)
    check_schema_version(file.schema_arrow)
    return file


def _stored_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", _stored_type(kind.value_type), kind.value_field.nullable))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_stored_type(field.type)) for field in kind.fields])
    return kind


def _open(data: bytes) -> pq.ParquetFile:
    return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)


def _encode(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(), sink, row_group_size=ROW_GROUP_ROWS, compression="zstd", compression_level=3,
        write_page_checksum=True,
    )  # fmt: skip
    return sink.getvalue().to_pybytes()


def read_rows(file: pq.ParquetFile, batch_rows: int) -> Iterator[dict[str, Any]]:
    for batch in file.iter_batches(batch_size=batch_rows):
        yield from batch.to_pylist()


def check_schema_version(schema: pa.Schema) -> None:
    found = (schema.metadata or {}).get(SCHEMA_KEY, KNOWN_MAJOR.encode()).decode()
    if found.split(".")[0] != KNOWN_MAJOR:
        raise InputError(
            f"rows of schema version {found}, this Ratchet reads {KNOWN_MAJOR}.x", "use the Ratchet that wrote them"
        )


def _check_structs(value: Any, kind: pa.DataType, place: str) -> None:
    """pyarrow drops a struct's unknown keys without a word."""
    if value is None:
        return
    if pa.types.is_list(kind) and pa.types.is_nested(kind.value_type):
        for number, item in enumerate(value):
            _check_structs(item, kind.value_type, f"{place}[{number}]")
    elif pa.types.is_struct(kind):
        known = [field.name for field in kind.fields]
        if not isinstance(value, Mapping) or not set(value) <= set(known):
            raise InputError(f"{place} is {value!r}", f"give a mapping with the keys {known}")
        for field in kind.fields:
            _check_structs(value.get(field.name), field.type, f"{place}.{field.name}")


def _misfit(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> str | None:
    """Which value of which row has the wrong type."""
    for number, row in enumerate(rows):
        for field in schema:
            try:
                pa.array([row[field.name]], type=field.type)
            except MISFITS as error:
                return f"row {number}, column {field.name!r}: {str(error).splitlines()[0]} (expected {field.type})"
    return None
