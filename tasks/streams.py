"""Rows of artifacts one after another, in another order, and into shards: never more than a batch in memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.artifacts import Artifact
from infra.errors import InputError
from infra.output import Output
from infra.parquet import open_parquet
from tasks.shingles import texts_of

Source = Artifact | tuple[Artifact, ...]
BATCH_ROWS = 4096
BATCH_CHARACTERS = 16_000_000
BUCKET_ROWS = 16_384
MOST_BUCKETS = 256


def artifacts_of(source: Source | None) -> tuple[Artifact, ...]:
    return () if source is None else source if isinstance(source, tuple) else (source,)


def stream(source: Source | None) -> Iterator[dict[str, Any]]:
    """Rows of all artifacts in order."""
    for artifact in artifacts_of(source):
        yield from artifact.iter_rows()


def batches(source: Source) -> Iterator[list[dict[str, Any]]]:
    """Some rows at a time: as many as `BATCH_ROWS`, or fewer long ones that reach `BATCH_CHARACTERS` together."""
    batch: list[dict[str, Any]] = []
    characters = 0
    for row in stream(source):
        batch.append(row)
        characters += sum(map(len, texts_of(row)))
        if len(batch) == BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def rows_in(source: Source | None) -> int:
    """Rows of all artifacts, as their manifests tell."""
    return sum(artifact.manifest().rows or 0 for artifact in artifacts_of(source))


def schema_of(source: Source) -> pa.Schema:
    """The rows' schema. Raises InputError where the artifacts' differ."""
    artifacts = artifacts_of(source)
    first, *others = (_schema(artifact) for artifact in artifacts)
    for artifact, schema in zip(artifacts[1:], others, strict=True):
        if not schema.equals(first):
            raise InputError(
                f"rows of different schemas: {artifacts[0].uri} has {first.names}, {artifact.uri} {schema.names}",
                "give each kind of rows to a stage of its own",
            )
    return first


def _schema(artifact: Artifact) -> pa.Schema:
    parts = artifact.parts()
    if not parts:
        raise InputError(f"{artifact.uri} holds no rows: it is of kind {artifact.kind!r}", "give a dataset")
    return open_parquet(artifact.read_bytes(parts[0])).schema_arrow


class ShardWriter:
    """Rows into shards of a size, each written once it is full, the last one by `close`."""

    def __init__(self, output: Output, schema: pa.Schema, shard_rows: int) -> None:
        self.output, self.schema, self.shard_rows = output, schema, shard_rows
        self.rows = 0
        self._waiting: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row)
        self.rows += 1
        if len(self._waiting) == self.shard_rows:
            self._write()

    def close(self) -> None:
        if self._waiting:
            self._write()

    def _write(self) -> None:
        self.output.write_shard((self.rows - 1) // self.shard_rows, self._waiting, self.schema)
        self._waiting = []


class Reordered:
    """Rows put down in any order, each with its place from 0 on, and read in the order of their places.

    They wait as JSON lines in bucket files, of which one at a time is in memory.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder
        self.size = max(BUCKET_ROWS, -(-rows // MOST_BUCKETS))
        self._files = [(folder / str(number)).open("w+", encoding="utf-8") for number in range(-(-rows // self.size))]

    def put(self, place: int, row: dict[str, Any]) -> None:
        self._files[place // self.size].write(json.dumps([place, row], ensure_ascii=False) + "\n")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for file in self._files:
            file.seek(0)
            placed = dict(json.loads(line) for line in file)
            yield from (placed[place] for place in sorted(placed))

    def close(self) -> None:
        for file in self._files:
            file.close()
