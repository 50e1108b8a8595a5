"""HelpSteer2's files (CC-BY-4.0): train.jsonl.gz, validation.jsonl.gz, or the same rows as .jsonl or .parquet.

    {"prompt": "…", "response": "…", "helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 2,
     "verbosity": 1}

Two consecutive rows share a prompt. Later turns of a prompt open with "<extra_id_1>User" or "<extra_id_1>Assistant"
on a line of their own; the first turn is the user's and has no mark.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import InputError
from tasks.rows import ATTRIBUTE, ATTRIBUTES, make_row

LICENCE = "CC-BY-4.0"
TEXTS = ("prompt", "response")
LARGEST = 4
REMEDY = "give HelpSteer2's train.jsonl.gz as it was published"
TURN = re.compile(r"\s*<extra_id_1>(User|Assistant)\n")


def read_helpsteer2(path: Path, limit: int) -> list[dict[str, Any]]:
    """At most `limit` rows as ATTRIBUTE rows; a null label stays null. Raises InputError naming row and field."""
    rows = [attribute_row(path, number, row) for number, row in enumerate(islice(_records(path), limit), start=1)]
    if not rows:
        raise InputError(f"{path}: 0 rows", REMEDY)
    return rows


def attribute_row(path: Path, number: int, row: Any) -> dict[str, Any]:
    """One checked row; `number` counts from 1."""
    if not isinstance(row, Mapping):
        _refuse(path, number, "", f"found {type(row).__name__}, expected an object with {[*TEXTS, *ATTRIBUTES]}")
    for field in TEXTS:
        if not isinstance(row.get(field), str) or not row[field].strip():
            _refuse(path, number, field, f"found {row.get(field)!r}, expected a text")
    labels = {field: _label(path, number, field, row) for field in ATTRIBUTES}
    prompt = turns_of(path, number, row["prompt"])
    values = {
        "prompt": prompt,
        "response": row["response"],
        **labels,
        "source": "helpsteer2",
        "synthetic": False,
        "generator": "",
        "licence": LICENCE,
    }
    return make_row(ATTRIBUTE, values, [prompt, row["response"], labels])


def turns_of(path: Path, number: int, prompt: str) -> list[dict[str, str]]:
    """The prompt's turns as messages. Raises InputError where they don't alternate or the last is not the user's."""
    first, *rest = TURN.split(prompt)
    messages = [{"role": "user", "content": first.strip()}]
    messages += [
        {"role": role.lower(), "content": text.strip()} for role, text in zip(rest[::2], rest[1::2], strict=True)
    ]
    roles = [message["role"] for message in messages]
    if roles != [("user", "assistant")[place % 2] for place in range(len(roles))] or roles[-1] != "user":
        _refuse(path, number, "prompt", f"found turns of {roles}, expected user and assistant in turn, the user last")
    return messages


def _label(path: Path, number: int, field: str, row: Mapping[str, Any]) -> float | None:
    if field not in row:
        _refuse(path, number, field, "the field is missing")
    value = row[field]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        _refuse(path, number, field, f"found {value!r}, expected a number from 0 to {LARGEST}")
    return float(value)


def _records(path: Path) -> Iterator[Any]:
    """Raw rows in order. Raises InputError for a file that cannot be read, naming the line."""
    if path.suffix == ".parquet":
        yield from _parquet_records(path)
        return
    if path.suffix not in (".gz", ".jsonl"):
        raise InputError(f"{path}: unknown kind of file {path.suffix!r}", "give a .jsonl, .jsonl.gz or .parquet file")
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse(path, number, line)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{path}: after row {number}: {error}", REMEDY) from error


def _parse(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: row {number}: {error}", "look whether the file was cut off; " + REMEDY) from error


def _parquet_records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        for batch in pq.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: {error}", REMEDY) from error


def _refuse(path: Path, number: int, field: str, reason: str) -> NoReturn:
    where = f"row {number}, field {field!r}" if field else f"row {number}"
    raise InputError(f"{path}: {where}: {reason}", REMEDY)
