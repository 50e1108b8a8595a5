"""HelpSteer2's files (CC-BY-4.0): train.jsonl.gz, validation.jsonl.gz, or the same rows as .jsonl or .parquet.

    {"prompt": "…", "response": "…", "helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 2,
     "verbosity": 1}

Two consecutive rows share a prompt. Later turns of a prompt open with "<extra_id_1>User" or "<extra_id_1>Assistant"
on a line of their own; the first turn is the user's and has no mark.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from infra.errors import InputError
from tasks.rows import ATTRIBUTE, ATTRIBUTES, make_row
from tasks.sources.base import BadRow, Record, register
from tasks.sources.files import read_file
from tasks.sources.json_records import CutOff
from tasks.sources.places import files_to_read
from tasks.sources.rows import Message, checked

LICENCE = "CC-BY-4.0"
TEXTS = ("prompt", "response")
FILES = (".jsonl", ".json", ".parquet")
LARGEST = 4
REMEDY = "give HelpSteer2's train.jsonl.gz as it was published"
TURN = re.compile(r"\s*<extra_id_1>(User|Assistant)\n")


@register("helpsteer2", use="attributes", licence=LICENCE, synthetic=False, files=FILES)
def read(record: Record) -> Iterator[dict[str, Any]]:
    for name in TEXTS:
        record.text(name)
    labels = {name: _label(record, name) for name in ATTRIBUTES}
    yield {"prompt": turns_of(record), "response": record.get("response"), **labels}


def read_helpsteer2(path: Path, limit: int) -> list[dict[str, Any]]:
    """At most `limit` rows as ATTRIBUTE rows; a null label stays null. Raises InputError naming row and field."""
    try:
        rows = [row for record in islice(_records(path), limit) for row in read(record)]
    except BadRow as bad:
        raise InputError(str(bad), REMEDY) from bad
    if not rows:
        raise InputError(f"{path}: 0 rows", REMEDY)
    given = {"source": "helpsteer2", "synthetic": False, "generator": "", "licence": LICENCE}
    return [
        make_row(ATTRIBUTE, row | given, [row["prompt"], row["response"], {name: row[name] for name in ATTRIBUTES}])
        for row in rows
    ]


def turns_of(record: Record) -> list[Message]:
    """The prompt's turns as messages; some of the published ones may say nothing."""
    first, *rest = TURN.split(record.get("prompt"))
    messages = [{"role": "user", "content": first.strip()}]
    messages += [
        {"role": role.lower(), "content": text.strip()} for role, text in zip(rest[::2], rest[1::2], strict=True)
    ]
    return checked(record, messages, last="user", field="prompt", empty=True)


def _label(record: Record, name: str) -> float | None:
    if name not in record.value:
        record.refuse(name, None, "a label, or null: the field is missing")
    value = record.value[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        record.refuse(name, value, f"a number from 0 to {LARGEST}")
    return float(value)


def _records(path: Path) -> Iterator[Record]:
    """Raises InputError for a file that cannot be read or is cut off, BadRow for what is no record."""
    files, _ = files_to_read(str(path), FILES)
    for file in files:
        for item in read_file(file, "attributes"):
            if isinstance(item, CutOff):
                raise InputError(str(item), REMEDY)
            if isinstance(item, BadRow):
                raise item
            yield item
