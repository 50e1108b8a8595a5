"""Fields of objects within a record."""

from collections.abc import Mapping
from dataclasses import replace

from tasks.sources.base import Record


def flattened(record: Record, name: str) -> Record:
    """The record with the fields of its object `name` beside its own, as "name.field"; a record without it stays."""
    inner = record.get(name)
    if inner is None:
        return record
    if not isinstance(inner, Mapping):
        record.refuse(name, inner, "an object")
    return replace(record, value={**record.value, **{f"{name}.{field}": value for field, value in inner.items()}})
