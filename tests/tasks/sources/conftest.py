"""What every reader's test needs: rows of a record in a data set's own form, or why it is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from tasks import read_source  # noqa: F401 - registers every reader
from tasks.sources.base import READERS, BadRow, Place, Record

Rows = list[dict[str, Any]]


@pytest.fixture
def rows_of() -> Callable[..., Rows]:
    """`rows_of(reader, value, use="")`: the reader's rows of row 7 of a.jsonl."""

    def read(reader: str, value: Any, use: str = "") -> Rows:
        known = READERS[reader]
        return [*known.read(Record(value, Place("a.jsonl", 7), use or known.use))]  # type: ignore[arg-type]

    return read


@pytest.fixture
def refusal_of(rows_of: Callable[..., Rows]) -> Callable[..., str]:
    """`refusal_of(reader, value, use="")`: what the reader says of a record that it does not take."""

    def read(reader: str, value: Any, use: str = "") -> str:
        with pytest.raises(BadRow) as caught:
            rows_of(reader, value, use)
        assert str(caught.value).startswith("a.jsonl, row 7")
        return str(caught.value)

    return read
