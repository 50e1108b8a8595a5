"""HelpSteer2's reader: the published formats, and every way in which a file can be something else."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import InputError
from tasks.rows import ATTRIBUTE, ATTRIBUTES
from tasks.sources.helpsteer2 import read_helpsteer2


def record(number: int = 0, **changes):
    return {"prompt": f"Question {number // 2}?", "response": f"Answer {number}.",
            "helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 2, "verbosity": 1, **changes}  # fmt: skip


@pytest.fixture(params=["train.jsonl", "train.jsonl.gz", "train.parquet"])
def write(request, tmp_path):
    """Writes records as the file that the test is about."""

    def make(records):
        path = tmp_path / request.param
        lines = "".join(json.dumps(row) + "\n" for row in records).encode()
        if path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(records), path)
        else:
            path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
        return path

    return make


def test_rows_keep_order_labels_and_licence(write):
    rows = read_helpsteer2(write([record(n, helpfulness=n) for n in range(4)]), 100)
    assert [row["response"] for row in rows] == [f"Answer {n}." for n in range(4)]
    assert [row["helpfulness"] for row in rows] == [0, 1, 2, 3] and rows[0]["prompt"] == rows[1]["prompt"]
    assert {row["licence"] for row in rows} == {"CC-BY-4.0"} and not any(row["synthetic"] for row in rows)
    assert set(rows[0]) == set(ATTRIBUTE.names) and len({row["id"] for row in rows}) == 4


def test_a_limit_takes_the_beginning(write):
    assert len(read_helpsteer2(write([record(n) for n in range(4)]), 3)) == 3


def test_later_turns_become_messages(write):
    prompt = "Hi\nthere\n<extra_id_1>Assistant\nHello!\n\n<extra_id_1>User\nWhat is 1 + 1?"
    (row,) = read_helpsteer2(write([record(prompt=prompt)]), 1)
    assert row["prompt"] == [
        {"role": "user", "content": "Hi\nthere"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "What is 1 + 1?"},
    ]


def test_a_missing_label_stays_missing(write):
    rows = read_helpsteer2(write([record(verbosity=None), record(1)]), 2)
    assert [row["verbosity"] for row in rows] == [None, 1]


@pytest.mark.parametrize(
    ("changes", "field", "found"),
    [
        ({"helpfulness": 5}, "helpfulness", "5"),
        ({"coherence": -1}, "coherence", "-1"),
        ({"complexity": "high"}, "complexity", "'high'"),
        ({"correctness": True}, "correctness", "True"),
        ({"response": ""}, "response", "''"),
        ({"prompt": None}, "prompt", "None"),
        ({"prompt": "a\n<extra_id_1>Assistant\nb"}, "prompt", "assistant"),
        ({"prompt": "a\n<extra_id_1>User\nb"}, "prompt", "user"),
    ],
)
def test_a_bad_field_is_named_with_its_row(tmp_path, changes, field, found):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (record(0), record(1), record(2, **changes))))
    with pytest.raises(InputError, match=rf"train.jsonl, row 3 \(byte \d+\), field '{field}.*{found}") as caught:
        read_helpsteer2(path, 100)
    assert caught.value.remedy


@pytest.mark.parametrize("field", ATTRIBUTES)
def test_a_missing_field_is_named(write, field):
    rows = [record()]
    del rows[0][field]
    with pytest.raises(InputError, match=f"row 1.*, field '{field}': .*the field is missing"):
        read_helpsteer2(write(rows), 100)


def test_a_file_that_was_cut_off(tmp_path):
    whole = "".join(json.dumps(record(n)) + "\n" for n in range(50)).encode()
    (tmp_path / "a.jsonl").write_bytes(whole[:-20])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(whole)[:-40])
    with pytest.raises(InputError, match=r"a.jsonl is cut off at byte \d+, within row 50"):
        read_helpsteer2(tmp_path / "a.jsonl", 100)
    with pytest.raises(InputError, match=r"b.jsonl.gz is cut off at byte \d+, within row \d+"):
        read_helpsteer2(tmp_path / "b.jsonl.gz", 100)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b"", "0 rows"),
        ("a.jsonl", b"[1, 2]\n", "row 1 .*expected an object"),
        ("a.jsonl", b"\xff\xfe\n", "row 1 .*no UTF-8"),
        ("a.jsonl.gz", b"plain text", "nothing in it can be read"),
        ("a.parquet", b"plain text", "Parquet"),
        ("a.csv", b"prompt,response", "none of its 1 files ends in .jsonl"),
    ],
)
def test_something_else_is_refused(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_helpsteer2(tmp_path / name, 100)


def test_a_missing_file(tmp_path):
    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"):
        with pytest.raises(InputError, match=name):
            read_helpsteer2(tmp_path / name, 1)
