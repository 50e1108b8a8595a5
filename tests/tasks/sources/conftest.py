"""What readers' tests need: rows of a record in a data set's own form, or why it is refused; files and the stage."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from infra.artifacts import Artifact
from infra.identity import fingerprint_of
from infra.output import Output
from tasks import read_source
from tasks.configs.sources import SourceConfig
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


@pytest.fixture
def source(tmp_path):
    """`source(records, reader="prompts", **settings)`: the config of a file with these records."""

    def make(records, reader="prompts", name="own.jsonl", **settings) -> SourceConfig:
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        lines = "".join(record if isinstance(record, str) else json.dumps(record) + "\n" for record in records)
        path.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode())
        return SourceConfig(reader=reader, path=str(path), **settings)

    return make


@pytest.fixture
def output(store, tmp_path):
    """`output(events)`: where a stage that is called by itself writes."""

    def make(events) -> Output:
        fingerprint = fingerprint_of("source", 1, {"by": "itself"}, {})
        artifact = Artifact(stage="source", kind="dataset", fingerprint=fingerprint, store=store.uri)
        return Output(artifact, store, events, tmp_path)

    return make


@pytest.fixture
def read(run_stage):
    return lambda config: run_stage(read_source.run, config)
