"""Conversations from a user's file: JSONL or Parquet rows with `messages`, or with `prompt` and `response`.

{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}
{"prompt": "Hi", "response": "Hello!"}              a prompt may be a list of messages too
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from infra.errors import InputError

PARQUET_MAGIC = b"PAR1"
SHAPES = "give each row `messages` (role and content, the assistant last), or `prompt` and `response`"


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    role: Literal["system", "user", "assistant"]
    content: str


MESSAGES = TypeAdapter(list[Message])


def read_conversations(path: Path) -> list[tuple[int, list[dict[str, str]]]]:
    """Each row's number, from 1 (in JSONL that of the line), and its conversation, which ends with the assistant.

    Raises InputError with file, row and field.
    """
    conversations = [(number, conversation(path, number, row)) for number, row in read_rows(path)]
    if not conversations:
        raise InputError(f"{path} holds no rows", SHAPES)
    return conversations


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"--input {path}: {error.strerror}", "give a JSONL or Parquet file") from error
    yield from parquet_rows(path, data) if data.startswith(PARQUET_MAGIC) else jsonl_rows(path, data)


def parquet_rows(path: Path, data: bytes) -> Iterator[tuple[int, Any]]:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        wanted = [name for name in ("messages", "prompt", "response") if name in file.schema_arrow.names]
        rows = file.read(columns=wanted).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is no readable Parquet file: {' '.join(str(error).split())}", SHAPES) from error
    yield from enumerate(rows, start=1)


def jsonl_rows(path: Path, data: bytes) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}: row {number} is no JSON: {error}", "write one JSON object a line") from error


def conversation(path: Path, number: int, row: Any) -> list[dict[str, str]]:
    """A row's messages, the assistant's last. Raises InputError."""
    if not isinstance(row, dict):
        raise InputError(f"{path}: row {number} is a {type(row).__name__}, expected an object", SHAPES)
    if row.get("messages") is not None:
        messages = check(path, number, "messages", row["messages"])
        if not messages or messages[-1]["role"] != "assistant":
            last = messages[-1]["role"] if messages else "nothing"
            raise InputError(f"{path}: row {number}, messages: ends with {last}, expected the assistant", SHAPES)
        return messages
    for field in ("prompt", "response"):
        if row.get(field) is None:
            raise InputError(f"{path}: row {number}, {field}: missing; found {sorted(row)}", SHAPES)
    prompt = row["prompt"]
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    answer = check(path, number, "response", [{"role": "assistant", "content": row["response"]}])
    return [*check(path, number, "prompt", asked), *answer]


def check(path: Path, number: int, field: str, messages: Any) -> list[dict[str, str]]:
    """The messages as plain values; text that is no valid Unicode is refused too."""
    try:
        found = [message.model_dump() for message in MESSAGES.validate_python(messages)]
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        wrong = f"found {str(first['input'])[:60]!r}: {first['msg']}"
        raise InputError(f"{path}: row {number}, {field}{place}: {wrong}", SHAPES) from error
    for place, message in enumerate(found):
        if any("\ud800" <= letter <= "\udfff" for letter in message["content"]):
            raise InputError(
                f"{path}: row {number}, {field}[{place}].content is no valid Unicode text", "remove the lone surrogate"
            )
    return found
