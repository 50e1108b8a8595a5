"""Records of JSON files, one at a time however large the file is: one object a line, one big list, or one object.

A record that is broken is told and passed over; the byte where it begins is known, as is the byte where a file ends
in mid-record.
"""

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase

from infra.errors import InputError
from tasks.sources.base import BadRow, Place, Record

CHUNK_BYTES = 1 << 20
LONGEST = 64 << 20
"""Bytes of the longest record that is read; more than that is no record but a broken file."""
_TOKEN = re.compile(rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+("?)|[\[\]{}]', re.DOTALL)
"""A string, whose group is empty where the line or the buffer ends within it, or a bracket."""
_OPENERS = {b"]": b"[", b"}": b"{"}
"""By the bracket that closes them."""
LONGEST_GAP = 1000
"""Bytes of white space before an element, after a comma."""
_GAP = re.compile(rb"[ \t\r\n,]*")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
UNREADABLE = (EOFError, OSError, zlib.error, gzip.BadGzipFile)
"""What reading raises in the middle of a file that is damaged or cut off."""


@dataclass(frozen=True)
class CutOff:
    """A file's end, where it comes in mid-record."""

    file: str
    row: int
    """Of the record that is not whole, counted from 1."""
    byte: int | None
    """Where that record begins (decompressed), None where the format does not tell."""
    end: int
    """Where the file ends."""
    reason: str

    def __str__(self) -> str:
        begins = "" if self.byte is None else f", which begins at byte {self.byte}"
        place = f"{self.file} is cut off at byte {self.end}, within row {self.row}{begins}"
        return f"{place} ({self.reason}); {self.row - 1} rows stand before it"


Item = Record | BadRow | CutOff


def json_records(stream: BufferedIOBase, file: str, *, lines: bool) -> Iterator[Item]:
    """Records in order. `lines` says that the file is named as one of lines; else its beginning tells.

    Raises InputError for a file of which nothing can be read.
    """
    chunks = Chunks(stream)
    if not chunks.more() and chunks.broken:
        raise InputError(f"{file}: nothing in it can be read: {chunks.broken}", "get the file again")
    if chunks.buffer.startswith(codecs.BOM_UTF8):
        chunks.drop(len(codecs.BOM_UTF8))
    begin = bytes(chunks.buffer.lstrip()[:1])
    if begin == b"[":
        yield from _list_records(chunks, file)
    elif begin == b"{" and not lines and not _is_of_lines(chunks):
        yield from _one_record(chunks, file)
    else:
        yield from _line_records(chunks, file)


class Chunks:
    """A stream's bytes in a buffer that grows at the end and is cut at the front."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self.stream = stream
        self.buffer = bytearray()
        self.offset = 0
        """Of the buffer's first byte within the file."""
        self.broken = ""
        """Why reading stopped before the end, if it did."""

    def more(self) -> bool:
        """Whether there was more to read."""
        try:
            chunk = self.stream.read1(CHUNK_BYTES)
        except UNREADABLE as error:
            self.broken, chunk = str(error) or type(error).__name__, b""
        self.buffer += chunk
        return bool(chunk)

    def drop(self, count: int) -> None:
        del self.buffer[:count]
        self.offset += count


def parsed(raw: bytes, place: Place) -> Item:
    """The record in these bytes."""
    try:
        value = json.loads(raw.decode("utf-8"))
        if _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
        return Record(value, place)
    except UnicodeEncodeError:
        return BadRow(place, "", "found half of a surrogate pair, expected whole characters")
    except UnicodeDecodeError as error:
        return BadRow(place, "", f"byte {(place.byte or 0) + error.start} is no UTF-8 ({error.reason})")
    except json.JSONDecodeError as error:
        return BadRow(place, "", f"no JSON: {error.msg} at character {error.pos} of the record")
    except (RecursionError, ValueError) as error:
        return BadRow(place, "", f"no JSON that can be read: {error}")


def _line_records(chunks: Chunks, file: str) -> Iterator[Item]:
    row, searched = 0, 0
    while True:
        end = chunks.buffer.find(b"\n", searched)
        if end < 0:
            searched = len(chunks.buffer)
            if searched <= LONGEST and chunks.more():
                continue
            break
        line = bytes(chunks.buffer[:end])
        row += 1
        if line.strip():
            yield parsed(line, Place(file, row, chunks.offset))
        chunks.drop(end + 1)
        searched = 0
    yield from _last_line(chunks, file, row + 1)


def _last_line(chunks: Chunks, file: str, row: int) -> Iterator[Item]:
    """A line without an end is whole where it parses, and the reading did not break."""
    if not chunks.buffer.strip() and not chunks.broken:
        return
    item = parsed(bytes(chunks.buffer), Place(file, row, chunks.offset))
    if len(chunks.buffer) > LONGEST:
        yield _cut(chunks, file, row, f"more than {LONGEST} bytes without a line's end")
    elif chunks.broken or (isinstance(item, BadRow) and _has_no_end(chunks.buffer)):
        yield _cut(chunks, file, row, chunks.broken or "the last line is no whole record")
    else:
        yield item


def _has_no_end(raw: bytes | bytearray) -> bool:
    """Whether a record that does not parse lacks its end, rather than that something is wrong within."""
    depth = 0
    for token in _TOKEN.finditer(raw):
        if token[1] == b"":
            return True
        depth += (token[0] in _OPENERS.values()) - (token[0] in _OPENERS)
    return depth > 0


def _list_records(chunks: Chunks, file: str) -> Iterator[Item]:
    """Elements of the list that the file is, found by their brackets; each is parsed by itself.

    Where a bracket is missing, reading goes on with the next element that can be told.
    """
    chunks.drop(chunks.buffer.index(b"[") + 1)
    row, place, within = 1, 0, list[bytes]()
    while token := _next_token(chunks, place):
        bracket, place = bytes(token[0]), token.end()
        begins = bracket in _OPENERS.values() and (not within or _opens_another(chunks, within, token.start()))
        closes = _OPENERS.get(bracket)
        is_last = bracket == b"]" and closes not in within
        if closes in within:
            while within.pop() != closes:
                pass
        elif closes:
            within = []
        elif not begins and bracket in _OPENERS.values():
            within.append(bracket)
        if begins or (closes and not within):
            end = token.start() if begins or is_last else place
            for item in _element(chunks, file, row, end):
                yield item
                row += 1
            within, place = ([bracket], 1) if begins else ([], 0)
        if is_last:
            chunks.drop(1)
            if not _goes_on(chunks):
                break
    yield from _rest(chunks, file, row, "" if token else "the list has no end")


def _next_token(chunks: Chunks, place: int) -> re.Match[bytes] | None:
    while True:
        token = _TOKEN.search(chunks.buffer, place)
        if token and (token[1] != b"" or chunks.buffer[token.end() : token.end() + 1] == b"\n"):
            return token
        place = token.start() if token else len(chunks.buffer)
        if len(chunks.buffer) > LONGEST or not chunks.more():
            return None


def _opens_another(chunks: Chunks, within: list[bytes], place: int) -> bool:
    """Whether an object opens where one within the present element cannot: after a comma, where a key belongs."""
    before = chunks.buffer[max(0, place - LONGEST_GAP) : place].rstrip()
    return within[-1] == b"{" == chunks.buffer[place : place + 1] and before.endswith(b",")


def _element(chunks: Chunks, file: str, row: int, end: int) -> Iterator[Item]:
    """What stands between the last element and `end`, if anything does."""
    begin = _skipped(chunks)
    raw, place = bytes(chunks.buffer[begin:end]), Place(file, row, chunks.offset + begin)
    chunks.drop(end)
    if raw.startswith((b"[", b"{")):
        yield parsed(raw, place)
    elif raw:
        yield BadRow(place, "", f"found {raw[:80]!r}, expected an object")


def _goes_on(chunks: Chunks) -> bool:
    """Whether another list follows the one that ended; drops up to its first element."""
    while not chunks.buffer.strip() and chunks.more():
        pass
    blank = len(chunks.buffer) - len(chunks.buffer.lstrip())
    follows = chunks.buffer[blank : blank + 1] == b"["
    chunks.drop(blank + follows)
    return follows


def _rest(chunks: Chunks, file: str, row: int, missing: str) -> Iterator[Item]:
    """What is wrong with the end of a file of lists; `missing` is "" after a list's end."""
    if missing:
        chunks.drop(_skipped(chunks))
        missing = "a record has no end: the file ends there, or a bracket is missing" if chunks.buffer else missing
    elif chunks.buffer:
        missing = f"found {bytes(chunks.buffer[:80])!r} after the list's end, expected nothing or another list"
    if chunks.broken or missing:
        yield _cut(chunks, file, row, chunks.broken or missing)


def _skipped(chunks: Chunks) -> int:
    """Where in the buffer something begins that is not between elements."""
    gap = _GAP.match(chunks.buffer)
    return gap.end() if gap else 0


def _is_of_lines(chunks: Chunks) -> bool:
    """Whether a JSON file that begins with an object goes on line by line; its first line may be broken."""
    while chunks.buffer.strip().count(b"\n") < 2 and len(chunks.buffer) <= LONGEST and chunks.more():
        pass
    first, *others = [line for line in bytes(chunks.buffer).split(b"\n", 8)[:8] if line.strip()] or [b""]
    if isinstance(parsed(first, Place("", 1)), Record):
        return True
    within = first.rstrip().endswith((b"{", b"[", b",", b":"))
    return not within and others != [] and isinstance(parsed(others[0], Place("", 2)), Record)


def _one_record(chunks: Chunks, file: str) -> Iterator[Item]:
    while len(chunks.buffer) <= LONGEST and chunks.more():
        pass
    item = parsed(bytes(chunks.buffer), Place(file, 1, 0))
    if isinstance(item, BadRow) and (chunks.broken or _has_no_end(chunks.buffer)):
        yield _cut(chunks, file, 1, chunks.broken or "the object has no end")
    else:
        yield item


def _cut(chunks: Chunks, file: str, row: int, reason: str) -> CutOff:
    return CutOff(file, row, chunks.offset, chunks.offset + len(chunks.buffer), reason)
