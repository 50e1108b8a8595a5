"""Tokenised documents in files that are mapped into memory: a document is a slice of its file, read when asked for.

    token_ids   list<uint32>   [17, 4, 9, 3] [8, 3] …     end to end in the file, one document after another
    source      string         "code"        "web"  …     which collection a document belongs to

A file is an uncompressed Arrow IPC file of record batches, so that nothing is decoded and nothing copied. Where
documents begin and which source they belong to is held in memory, a few bytes for each.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SHARD = pa.schema([("token_ids", pa.list_(pa.uint32())), ("source", pa.string())])
COLUMNS = ("token_ids", "source")


def write_shard(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """One file out of record batches that have the two columns, and perhaps others; one batch is held at a time."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SHARD) as writer:
        for batch in batches:
            writer.write_batch(batch.select(list(COLUMNS)).cast(SHARD))


class TokenShards:
    """The documents of several files, numbered through."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises FileNotFoundError, or ValueError for a file that `write_shard` did not write."""
        batches = [batch for path in paths for batch in _batches(path)]
        columns = [batch.column("token_ids") for batch in batches]
        self._slices = [(column.offsets.to_numpy(), column.values.to_numpy()) for column in columns]
        self._starts = [0, *accumulate(map(len, columns))]
        self.lengths: NDArray[np.int64] = np.concatenate(
            [np.zeros(0, np.int64), *(np.diff(offsets) for offsets, _ in self._slices)]
        )
        """Tokens of each document."""
        self.sources, self.source_of = _sources(batches)
        """Names of the sources in alphabetical order, and the place among them of each document's."""

    def __len__(self) -> int:
        return len(self.lengths)

    def tokens(self, index: int) -> NDArray[np.uint32]:
        """One document, as a view of its file."""
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        batch = bisect_right(self._starts, index) - 1
        offsets, values = self._slices[batch]
        start, end = offsets[index - self._starts[batch] :][:2]
        return values[start:end]


def _batches(path: Path) -> list[pa.RecordBatch]:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no file of token shards: {error}; write it again with write_shard") from error
    if not reader.schema.equals(SHARD):
        raise ValueError(f"{path} has the columns {reader.schema.names}; expected {SHARD}")
    return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def _sources(batches: Sequence[pa.RecordBatch]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    encoded = [batch.column("source").dictionary_encode() for batch in batches]
    known = [part.dictionary.to_pylist() for part in encoded]
    names = sorted({name for part in known for name in part})
    place = {name: number for number, name in enumerate(names)}
    codes = [
        np.array([place[name] for name in part], np.int32)[column.indices.to_numpy()]
        for part, column in zip(known, encoded, strict=True)
    ]
    return tuple(names), np.concatenate([np.zeros(0, np.int32), *codes])
