"""Token shards on disk, and the pieces that documents are cut into."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.packing import Document
from models.pieces import Pieces
from models.token_shards import SHARD, TokenShards, write_shard

DOCUMENTS = [[7, 1, 2], [5], [2**32 - 1, 3, 4, 9, 8, 6, 0], [1, 2]]
SOURCES = ["web", "code", "web", "code"]


def batch(documents: list, sources: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(documents, pa.list_(pa.uint32())), pa.array(sources)], schema=SHARD)


def shards_of(folder: Path, *lengths: int, source: str = "web") -> TokenShards:
    documents = [list(range(length)) for length in lengths]
    write_shard(folder / "one", [batch(documents, [source] * len(lengths))])
    return TokenShards([folder / "one"])


def test_documents_come_back_from_several_files_and_batches(tmp_path):
    write_shard(tmp_path / "a", [batch(DOCUMENTS[:1], SOURCES[:1]), batch(DOCUMENTS[1:3], SOURCES[1:3])])
    write_shard(tmp_path / "b", [batch([], [])])
    write_shard(tmp_path / "c", [batch(DOCUMENTS, SOURCES).slice(3)])
    shards = TokenShards([tmp_path / name for name in "abc"])
    assert [shards.tokens(index).tolist() for index in range(len(shards))] == DOCUMENTS
    assert shards.lengths.tolist() == [3, 1, 7, 2]
    assert shards.sources == ("code", "web") and shards.source_of.tolist() == [1, 0, 1, 0]
    with pytest.raises(IndexError, match="document 4 of 4"):
        shards.tokens(4)


def test_other_columns_and_names_of_list_items_are_taken_as_they_come(tmp_path):
    """Parquet calls a list's items "element"."""
    kind = pa.list_(pa.field("element", pa.uint32()))
    stored = pa.RecordBatch.from_pydict(
        {"id": ["x"], "source": ["web"], "token_ids": pa.array([[1, 2]], kind)},
        schema=pa.schema([("id", pa.string()), ("source", pa.string()), ("token_ids", kind)]),
    )
    write_shard(tmp_path / "a", [stored])
    assert TokenShards([tmp_path / "a"]).tokens(0).tolist() == [1, 2]


def test_what_is_no_shard_is_refused(tmp_path):
    (tmp_path / "text").write_text("no such thing")
    with pytest.raises(ValueError, match="no file of token shards"):
        TokenShards([tmp_path / "text"])
    with pytest.raises(FileNotFoundError):
        TokenShards([tmp_path / "gone"])
    with pa.OSFile(str(tmp_path / "other"), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("x", pa.int8())])):
        pass
    with pytest.raises(ValueError, match=r"columns \['x'\]"):
        TokenShards([tmp_path / "other"])


READ_ONE = """
import resource, sys
from pathlib import Path
from models.token_shards import TokenShards
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shards = TokenShards([Path(sys.argv[1])])
assert shards.tokens(len(shards) // 2)[5] == 5, shards.tokens(len(shards) // 2)[:9]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_file_is_not_loaded_to_read_from_it(tmp_path):
    document = np.arange(100_000, dtype=np.uint32)
    write_shard(tmp_path / "big", (batch([document] * 10, ["web"] * 10) for _ in range(20)))
    size_kib = (tmp_path / "big").stat().st_size / 1024
    ended = subprocess.run(
        [sys.executable, "-c", READ_ONE, str(tmp_path / "big")], capture_output=True, text=True, check=True
    )
    assert size_kib > 75_000
    assert int(ended.stdout) < size_kib / 5


def test_nothing_is_copied(tmp_path):
    shards = shards_of(tmp_path, 9)
    before = pa.total_allocated_bytes()
    view = shards.tokens(0)
    assert not view.flags.owndata and not view.flags.writeable
    assert pa.total_allocated_bytes() == before


@pytest.mark.parametrize("length", [1, 2, 9, 10, 11, 20, 21, 22])
def test_every_token_but_the_first_is_trained_once(tmp_path, length):
    pieces = Pieces(shards_of(tmp_path, length), 10)
    trained = [piece.token_ids[place] for piece in pieces for place in piece.trained]
    assert trained == list(range(1, length))
    assert pieces.lengths.tolist() == [len(piece.inputs) for piece in pieces]
    assert all(len(piece.inputs) <= 10 for piece in pieces)


def test_pieces_of_many_documents_are_numbered_through(tmp_path):
    write_shard(tmp_path / "a", [batch([[1], *DOCUMENTS], ["code", *SOURCES])])
    pieces = Pieces(TokenShards([tmp_path / "a"]), 3)
    expected = [[7, 1, 2], [2**32 - 1, 3, 4, 9], [9, 8, 6, 0], [1, 2]]
    assert list(pieces) == [Document.of(piece) for piece in expected]
    assert pieces[1:3] == [pieces[1], pieces[2]] and pieces[-1] == pieces[3]
    assert pieces.source_of.tolist() == [1, 1, 1, 0]
    with pytest.raises(IndexError, match="piece 4 of 4"):
        pieces[4]
    with pytest.raises(ValueError, match="pieces of 0 tokens"):
        Pieces(pieces.shards, 0)


def test_no_documents_make_no_pieces(tmp_path):
    assert len(Pieces(shards_of(tmp_path), 4)) == 0
