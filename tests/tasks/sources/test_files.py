"""Every kind of file as records, and which files of a folder, or on S3, are read."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import InputError
from tasks.sources.base import RECORD_FILES, Place, Record
from tasks.sources.files import read_file
from tasks.sources.json_records import CutOff
from tasks.sources.places import content_digest, files_to_read
from tests.s3_server import BUCKET, S3Server

RECORDS = [{"question": f'What is "{n}", or\n{n} + 1?', "answer": f"é{n}"} for n in range(600)]


def items(path: Path | str, suffixes=(*RECORD_FILES, ".txt", ".md")) -> list:
    return [item for file in files_to_read(str(path), suffixes)[0] for item in read_file(file, "prompts")]


def as_csv(records) -> str:
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in record.values()) for record in records]
    return "question,answer\r\n" + "".join(line + "\r\n" for line in quoted)


def contents(name: str) -> bytes:
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS)
    if name.endswith(".parquet"):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(RECORDS), sink, row_group_size=100)
        return sink.getvalue().to_pybytes()
    text = {"a.json": json.dumps(RECORDS), "a.jsonl": lines, "a.csv": as_csv(RECORDS)}[name.removesuffix(".gz")]
    return gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz", "a.json.gz", "a.csv", "a.csv.gz", "a.parquet"])
def test_every_kind_of_file_gives_the_same_records(tmp_path, name):
    (tmp_path / name).write_bytes(contents(name))
    found = items(tmp_path / name)
    assert [item.value for item in found] == RECORDS
    assert [item.place.row for item in found] == [*range(1, 601)] and {item.use for item in found} == {"prompts"}


class TestTables:
    def write(self, tmp_path: Path, text: bytes, name: str = "a.csv") -> list:
        (tmp_path / name).write_bytes(text)
        return items(tmp_path / name)

    def test_a_row_of_other_columns_is_told(self, tmp_path):
        first, bad, last = self.write(tmp_path, b"a,b\n1,2\n1,2,3\n5,6\n")
        assert first.value == {"a": "1", "b": "2"} and last.value == {"a": "5", "b": "6"}
        assert "a.csv, row 2: found 3 columns, expected 2: a, b" in str(bad)

    def test_letters_that_are_no_utf8_are_told_with_their_column(self, tmp_path):
        bad, last = self.write(tmp_path, b"a,b\n1,\xff\n5,6\n")
        assert "row 1, field 'b'" in str(bad) and isinstance(last, Record)

    def test_quotes_in_the_wrong_place_are_told(self, tmp_path):
        bad, last = self.write(tmp_path, b'a,b\n"1"x,2\n5,6\n')
        assert "row 1: no CSV: " in str(bad) and last.value["a"] == "5"

    def test_a_file_cut_off_within_quotes(self, tmp_path):
        whole, cut = self.write(tmp_path, b'a,b\n1,2\n3,"four and\n')
        assert whole.value["a"] == "1" and isinstance(cut, CutOff) and (cut.row, cut.end) == (2, 20)

    def test_tabs_know_no_quotes(self, tmp_path):
        (row,) = self.write(tmp_path, b'a\tb\n"1\tsay "two"\n', "a.tsv")
        assert row.value == {"a": '"1', "b": 'say "two"'}

    @pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
    def test_blank_lines_are_no_rows(self, tmp_path, name):
        comma = b"," if name == "a.csv" else b"\t"
        found = self.write(tmp_path, b"\na,b\n1,2\n\r\n3,4\n\n".replace(b",", comma), name)
        assert [item.value for item in found] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]

    def test_columns_of_one_name_are_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"a.csv: columns of the same name: b"):
            self.write(tmp_path, b"a,b,b\n1,2,3\n")

    @pytest.mark.parametrize(
        ("name", "text"), [("a.csv", b'"a"x,b\n'), ("b.csv", b'"a,b\n'), ("a.csv.gz", gzip.compress(b"a,b\n")[:12])]
    )
    def test_a_header_that_cannot_be_read(self, tmp_path, name, text):
        with pytest.raises(InputError, match="no header that can be read"):
            self.write(tmp_path, text, name)

    def test_a_header_alone_or_nothing_has_no_rows(self, tmp_path):
        assert self.write(tmp_path, b"a,b\n") == self.write(tmp_path, b"", "b.csv") == []


def test_a_parquet_file_cut_off_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(contents("a.parquet")[:-100])
    with pytest.raises(InputError, match=r"a.parquet: no Parquet .*row 0.*get it again"):
        items(tmp_path / "a.parquet")


def as_parquet(path: Path, values: pa.Array) -> Path:
    pq.write_table(pa.table({"value": values}), path)
    return path


def test_a_parquet_row_that_python_cannot_hold_is_bad_alone(tmp_path):
    buffers = [None, pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 1, 2, 3))), pa.py_buffer(b"a\xffc")]
    strings = as_parquet(tmp_path / "a.parquet", pa.Array.from_buffers(pa.string(), 3, buffers))
    first, bad, last = items(strings)
    assert (first.value, last.value, last.place.row) == ({"value": "a"}, {"value": "c"}, 3)
    assert "a.parquet, row 2: no values that can be read: 'utf-8' codec" in str(bad)
    times = pa.array([0, 1 << 55], pa.int64()).cast(pa.timestamp("ms"))
    first, bad = items(as_parquet(tmp_path / "b.parquet", times))
    assert isinstance(first, Record) and "b.parquet, row 2: no values that can be read" in str(bad)


def test_a_compressed_text_cut_off_is_told(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"Hello " * 100)[:-9])
    (cut,) = items(tmp_path)
    assert isinstance(cut, CutOff) and "end-of-stream" in str(cut)


def test_a_text_file_is_one_record_and_letters_that_are_none_are_told(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffHé\n\nllo".encode())
    (tmp_path / "b.md").write_bytes(b"ab\xff")
    first, bad = items(tmp_path)
    assert first.value == "Hé\n\nllo" and first.place == Place(str(tmp_path / "a.txt"), 1, 0)
    assert "b.md, row 1 (byte 0): byte 2 is no UTF-8" in str(bad)


class TestPlaces:
    def fill(self, folder: Path, *names: str) -> Path:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(json.dumps({"name": name}) + "\n")
        return folder

    def test_a_folder_is_read_in_the_order_of_names_without_hidden_files_and_test_splits(self, tmp_path):
        names = ("b.jsonl", "a/2.json", "a/1.json", ".cache/x.json", "test.jsonl", "test/1.json",
                 "data/test-00000.json", "contest.jsonl", "README.md")  # fmt: skip
        read, left_out = files_to_read(str(self.fill(tmp_path, *names)), RECORD_FILES)
        assert [file.name for file in read] == ["a/1.json", "a/2.json", "b.jsonl", "contest.jsonl"]
        assert [file.name for file in left_out] == ["data/test-00000.json", "test.jsonl", "test/1.json"]

    def test_a_file_of_a_test_split_is_read_where_it_is_named(self, tmp_path):
        self.fill(tmp_path, "test.jsonl", "train.jsonl")
        assert [item.value for item in items(tmp_path / "test.jsonl")] == [{"name": "test.jsonl"}]

    def test_a_folder_with_a_test_split_alone_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"only files of a test split, such as test.jsonl"):
            files_to_read(str(self.fill(tmp_path, "test.jsonl")), RECORD_FILES)

    def test_nothing_to_read_says_what_is_there(self, tmp_path):
        with pytest.raises(InputError, match="nowhere: no such file or folder"):
            files_to_read(str(tmp_path / "nowhere"), RECORD_FILES)
        with pytest.raises(InputError, match="no file there"):
            files_to_read(str(tmp_path), RECORD_FILES)
        with pytest.raises(InputError, match=r"none of its 1 files ends in .jsonl.*the first is a.exe"):
            files_to_read(str(self.fill(tmp_path, "a.exe")), RECORD_FILES)

    def test_the_digest_is_of_content_and_names_within_wherever_the_source_lies(self, tmp_path):
        one, two = (self.fill(tmp_path / place / "set", "a.json", "b/c.json") for place in ("one", "two"))
        assert content_digest(str(one)) == content_digest(f"{two}/")
        assert content_digest(str(one / "a.json")) == content_digest(str(two / "a.json")) != content_digest(str(one))
        (two / "a.json").rename(two / "a2.json")
        assert content_digest(str(one)) != content_digest(str(two))
        assert content_digest(str(one / "a.json")) != content_digest(str(two / "a2.json"))

    def test_records_know_of_their_place_what_the_digest_knows(self, tmp_path):
        folder = self.fill(tmp_path / "drop", "a.json", "b/c.json")
        assert [item.name for item in items(folder)] == ["drop/a.json", "drop/b/c.json"]
        assert [item.name for item in items(folder / "a.json")] == ["drop/a.json"]

    def test_a_folder_beside_the_file_or_its_folder_may_belong_to_it(self, tmp_path):
        path = str(self.fill(tmp_path, "set/data/a.tsv", "set/csv/1.csv") / "set/data/a.tsv")
        alone, before = content_digest(path), content_digest(path, "csv")
        assert before == content_digest(str(tmp_path / "set/data"), "csv") != alone
        self.fill(tmp_path, "set/csv/2.csv")
        assert content_digest(path) == alone and content_digest(path, "csv") != before

    def test_a_changed_file_has_another_digest(self, tmp_path):
        path = self.fill(tmp_path, "a.json") / "a.json"
        before, status = content_digest(str(path)), path.stat()
        path.write_text('{"name": "b.json"}\n')
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        assert path.stat().st_size == status.st_size and content_digest(str(path)) != before


def test_files_on_s3_are_read_as_local_ones(tmp_path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch):
    for name, value in s3_server.variables().items():
        monkeypatch.setenv(name, value)
    client = s3_server.client()
    client.makedirs(BUCKET, exist_ok=True)
    for name in ("a.parquet", "a.jsonl.gz"):
        client.pipe_file(f"{BUCKET}/sources/{name}", contents(name))
        (tmp_path / "sources" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "sources" / name).write_bytes(contents(name))
    found = items(f"s3://{BUCKET}/sources")
    assert [item.value for item in found] == RECORDS * 2
    assert found[0].place.file == f"s3://{BUCKET}/sources/a.jsonl.gz"
    assert [item.value for item in items(f"s3://{BUCKET}/sources/a.parquet")] == RECORDS
    digest, single = content_digest(f"s3://{BUCKET}/sources"), content_digest(f"s3://{BUCKET}/sources/a.parquet")
    assert digest == content_digest(str(tmp_path / "sources"))
    assert single == content_digest(str(tmp_path / "sources/a.parquet"))
    client.pipe_file(f"{BUCKET}/sources/a.parquet", contents("a.parquet")[:-1] + b"?")
    assert content_digest(f"s3://{BUCKET}/sources") != digest
    assert content_digest(f"s3://{BUCKET}/sources/a.parquet") != single
    with pytest.raises(InputError, match="no file there"):
        files_to_read(f"s3://{BUCKET}/nothing-here", RECORD_FILES)
