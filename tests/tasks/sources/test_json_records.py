"""JSON in any of its forms: every record with its row and byte, what is broken, and where a file is cut off."""

import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import InputError
from tasks.sources.base import BadRow, Record
from tasks.sources.json_records import CutOff, json_records

WORDS = st.text('{}[]",\\ \né😀a1', max_size=6)
"""Made of what a reader that counts brackets might stumble over."""
RECORDS = st.dictionaries(WORDS, st.none() | st.integers() | WORDS | st.lists(st.dictionaries(WORDS, WORDS, max_size=2),
                                                                              max_size=2), max_size=3)  # fmt: skip


class Dripping(io.BytesIO):
    """A stream that gives a few bytes at a time, as a slow line does."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self.step = step

    def read1(self, size: int | None = -1) -> bytes:
        return self.read(self.step)


def read(data: bytes, *, lines: bool = False, step: int = 1 << 20) -> list[Record | BadRow | CutOff]:
    return [*json_records(Dripping(data, step), "a.json", lines=lines)]


def values(items) -> list:
    return [item.value for item in items if isinstance(item, Record)]


@given(st.lists(RECORDS, min_size=1, max_size=4), st.integers(1, 9), st.sampled_from([None, 2]))
def test_a_list_gives_its_elements_wherever_the_chunks_end(records, step, indent):
    data = json.dumps(records, ensure_ascii=False, indent=indent).encode()
    items = read(data, step=step)
    assert values(items) == records and len(items) == len(records)
    for item in items:
        assert isinstance(item, Record) and data[item.place.byte or 0 :].startswith(b"{")
    assert [item.place.row for item in items if isinstance(item, Record)] == [*range(1, len(records) + 1)]


@given(st.lists(RECORDS, min_size=1, max_size=4), st.integers(1, 9), st.booleans())
def test_lines_give_their_objects_at_their_bytes(records, step, ended):
    lines = [json.dumps(record, ensure_ascii=False).encode() for record in records]
    data = b"\n".join(lines) + b"\n" * ended
    items = read(data, lines=True, step=step)
    assert values(items) == records
    for item, line in zip(items, lines, strict=True):
        assert isinstance(item, Record) and data[item.place.byte or 0 :].startswith(line)


@given(st.lists(RECORDS, min_size=2, max_size=4), st.data())
def test_a_list_cut_off_anywhere_keeps_what_is_whole(records, data):
    text = json.dumps(records).encode()
    end = data.draw(st.integers(1, len(text) - 1))
    items = read(text[:end])
    whole = values(items)
    assert whole == records[: len(whole)] and isinstance(items[-1], CutOff) and len(items) == len(whole) + 1
    cut = items[-1]
    assert cut.row == len(whole) + 1 and cut.end == end and cut.byte is not None and cut.byte <= end
    assert f"byte {end}" in str(cut) and f"{len(whole)} rows stand before it" in str(cut)


def test_a_broken_element_is_told_and_the_next_is_read():
    items = read(b'[{"a": 1}, {"b": 1 1}, {"c": 3}, 4]')
    assert values(items) == [{"a": 1}, {"c": 3}]
    assert str(items[1]) == "a.json, row 2 (byte 11): no JSON: Expecting ',' delimiter at character 8 of the record"
    assert "row 4 (byte 33)" in str(items[3]) and "expected an object" in str(items[3])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"b":}', "no JSON: Expecting value at character 5"),
        (b'{"b": "\xff"}', r"byte 16 is no UTF-8"),
        (b'{"b": "\\ud83d"}', "half of a surrogate pair"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_a_broken_line_is_told_and_the_next_is_read(line, reason):
    first, broken, last = read(b'{"a": 1}\n' + line + b'\n{"c": 3}', lines=True)
    assert values([first, last]) == [{"a": 1}, {"c": 3}]
    assert isinstance(broken, BadRow) and reason in str(broken) and "a.json, row 2 (byte 9)" in str(broken)


def test_whole_surrogate_pairs_are_characters():
    assert values(read(b'[{"a": "\\ud83d\\ude00"}]')) == [{"a": "😀"}]


def test_the_last_line_without_an_end_counts_where_it_is_whole():
    assert values(read(b'{"a": 1}\n{"b": 2}', lines=True)) == [{"a": 1}, {"b": 2}]
    *whole, cut = read(b'{"a": 1}\n{"b": 2', lines=True)
    assert values(whole) == [{"a": 1}] and isinstance(cut, CutOff) and (cut.row, cut.byte, cut.end) == (2, 9, 16)


@pytest.mark.parametrize("lines", [True, False])
def test_a_compressed_file_cut_off_keeps_whole_lines(lines):
    records = [{"number": number, "text": f"{number * 7919:x}" * 20} for number in range(500)]
    packed = gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode())
    items = [*json_records(gzip.GzipFile(fileobj=io.BytesIO(packed[:-2000])), "a.json.gz", lines=lines)]
    whole = values(items)
    assert 100 < len(whole) < 500 and whole == records[: len(whole)]
    assert isinstance(items[-1], CutOff) and "end-of-stream" in str(items[-1])


def test_what_is_not_compressed_at_all_is_refused():
    with pytest.raises(InputError, match=r"a.json.gz: nothing in it can be read: Not a gzipped file"):
        list(json_records(gzip.GzipFile(fileobj=io.BytesIO(b"plain")), "a.json.gz", lines=True))


def test_a_json_file_may_be_one_object_or_an_object_a_line():
    pretty = json.dumps({"problem": "1+1?", "parts": [{"n": 1}]}, indent=4).encode()
    assert values(read(pretty, step=3)) == [{"problem": "1+1?", "parts": [{"n": 1}]}]
    assert values(read(b'{"a": 1}\n\n{"b": 2}\n', step=2)) == [{"a": 1}, {"b": 2}]
    (cut,) = read(pretty[:-2])
    assert isinstance(cut, CutOff) and "the object has no end" in str(cut)


def test_a_byte_order_mark_is_no_part_of_the_first_record():
    assert values(read(b'\xef\xbb\xbf{"a": 1}\n', lines=True)) == [{"a": 1}]


def test_empty_files_and_lists_have_no_records():
    assert read(b"") == read(b"[]") == read(b" [ \n ] ") == []


def shown(data: bytes, *, lines: bool = False, step: int = 1 << 20) -> list:
    """Values, or the row of what is broken and a word for a file's end."""
    return [item.value if isinstance(item, Record) else item.place.row if isinstance(item, BadRow) else "cut"
            for item in read(data, lines=lines, step=step)]  # fmt: skip


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'[{"a": 1}]\n[{"a": 2},{"a": 3}]\n', [{"a": 1}, {"a": 2}, {"a": 3}]),
        (b'[{"a": 1}]\n{"a": 2}', [{"a": 1}, "cut"]),
        (b'[{"a": 1}]]', [{"a": 1}, "cut"]),
        (b'[{"a": 1}]\n[{"a": 2}', [{"a": 1}, {"a": 2}, "cut"]),
    ],
)
def test_what_follows_a_list_is_never_lost_in_silence(data, expected, step):
    assert shown(data, step=step) == expected


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'[{"a": 1, {"a": 2}, {"a": 3}]', [1, {"a": 2}, {"a": 3}]),
        (b'[{"a": {"b": 1}, {"a": 2}]', [1, {"a": 2}]),
        (b'[{"a": [{"b": 1}}, {"a": 2}]', [1, {"a": 2}]),
        (b'[{"a": [1}, {"a": 2}]', [1, {"a": 2}]),
        (b'[{"a": 1}}, {"a": 2}]', [{"a": 1}, 2, {"a": 2}]),
        (b'["a": 1}, {"a": 2}]', [1, {"a": 2}]),
        (b'[{"a": "x},\n{"a": 2}]', [1, {"a": 2}]),
        (b'[{"a": 1}, what, {"a": 2}]', [{"a": 1}, 2, {"a": 2}]),
        (b'[{"a": 1}, {"a": 2]', [{"a": 1}, 2]),
    ],
)
def test_a_missing_bracket_or_quote_costs_one_element(data, expected, step):
    assert shown(data, step=step) == expected


def test_a_broken_first_line_costs_that_line_alone():
    assert shown(b'{"a" 1}\n{"a": 2}\n{"a": 3}\n', step=3) == [1, {"a": 2}, {"a": 3}]
    assert shown(b'{"a": [\n{"b": 1}\n]}') == [{"a": [{"b": 1}]}]


def test_a_last_line_that_is_wrong_within_is_not_called_cut_off():
    deep = b"[" * 5000 + b"]" * 5000
    assert shown(b'{"a": 1}\n' + deep, lines=True) == [{"a": 1}, 2]
    assert shown(b'{"a": 1}\n{"a": "\xff"}', lines=True) == [{"a": 1}, 2]
    assert shown(b'{"a": 1}\n{"a": {"b": 2}', lines=True) == [{"a": 1}, "cut"]
