"""WikiTableQuestions: questions on tables of Wikipedia (Pasupat and Liang, 2015).

    id      utterance                      context               targetValue
    nt-0    which team came second?        csv/204-csv/590.csv   Wolfe Tones
    nt-1    who won in 2001 and in 2002?   csv/204-csv/591.csv   Ann|Bob

`path` is a file of the set's data/ folder; the tables are read from csv/ beside that folder or beside the file. A bar
separates several answers, all of which are wanted. Copies on the Hub have `question`, `answers` and the table itself.
The repository is CC-BY-SA-4.0 (the Hub's card says CC-BY-4.0). pristine-unseen-tables is the benchmark's test set.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from infra.errors import InputError
from tasks.judges.ground_truth import verifier
from tasks.judges.verifiers.contains_all import NUMBER, value_of
from tasks.sources.base import Record, register
from tasks.sources.json_records import UNREADABLE
from tasks.sources.markdown import table
from tasks.sources.nested import flattened
from tasks.sources.places import neighbours, source_files
from tasks.sources.rows import prompt_row, user

_CONTEXT = re.compile(r"csv/\d+-csv/\d+\.csv")
_ESCAPED = {r"\n": "\n", r"\p": "|", r"\\": "\\"}


@register("wiki_table_questions", use="prompts", beside="csv", licence="CC-BY-SA-4.0", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    flat = flattened(record, "table")
    question = _unescaped(flat.text("utterance", "question"))
    if flat.get("table") is None:
        rows = _table_of(flat)
        facts = [_unescaped(fact) for fact in flat.text("targetValue").split("|")]
    else:
        rows = [flat.items("table.header"), *flat.items("table.rows")]
        facts = list(flat.items("answers"))
    if not all(isinstance(fact, str) and fact.strip() for fact in facts):
        flat.refuse("targetValue or answers", facts, "texts with something in them")
    asked = user(f"{table(flat, 'table', rows)}\n\n{question}")
    yield prompt_row(record, [asked], verifier=_verifier(facts), task="closed_qa")


def _verifier(facts: Sequence[str]) -> dict[str, Any]:
    if len(facts) == 1 and NUMBER.fullmatch(facts[0].strip()):
        return verifier("number", {"value": str(value_of(facts[0]))})
    return verifier("contains_all", {"all": list(facts)})


def _table_of(record: Record) -> list[list[str]]:
    """The rows of the CSV file that `context` names."""
    context = record.text("context")
    if not _CONTEXT.fullmatch(context):
        record.refuse("context", context, "the path of a table, such as csv/204-csv/590.csv")
    for place in neighbours(record.place.file, context):
        try:
            rows = _rows(place)
        except (UnicodeDecodeError, csv.Error, *UNREADABLE) as error:
            record.refuse("context", context, f"a table that can be read ({error})")
        if rows:
            return rows
    record.refuse("context", context, "a table there, beside the file or beside its folder")


@lru_cache(maxsize=256)
def _rows(location: str) -> list[list[str]] | None:
    """Questions on one table come in any order, so the latest tables stay at hand. None where there is no such file."""
    try:
        with source_files(location)[0].open() as stream:
            text = stream.read().decode("utf-8")
    except InputError:
        return None
    return [row for row in csv.reader(io.StringIO(text), doublequote=False, escapechar="\\") if row]


def _unescaped(text: str) -> str:
    return re.sub(r"\\[np\\]", lambda found: _ESCAPED[found[0]], text)
