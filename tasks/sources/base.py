"""What a source reader is: a function from one record of a data set's file to rows of one of our schemas.

    @register("gsm8k", use="prompts", licence="MIT", synthetic=False)
    def read(record: Record) -> Iterator[dict[str, Any]]:
        question = record.text("question")
        yield prompt_row(record, [user(question)], verifier=…)

A record that is not as the data set's own files are raises BadRow, which names file, row and field. `prompt_row` and
its like stand in tasks/sources/rows.py. A reader for more than one use (`also`) looks at `record.use`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import pyarrow as pa

from tasks.configs.sources import Use
from tasks.rows import ATTRIBUTE, DIALOGUE, PREFERENCE, PROMPT, TEXT

SCHEMAS: dict[Use, pa.Schema] = {
    "prompts": PROMPT, "openers": PROMPT, "documents": TEXT, "python_files": TEXT, "dialogues": DIALOGUE,
    "preferences": PREFERENCE, "attributes": ATTRIBUTE,
}  # fmt: skip


RECORD_FILES = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
"""What records stand in; each may be compressed (.gz), Parquet aside."""


@dataclass(frozen=True)
class Place:
    """Where a record stands."""

    file: str
    """Path or s3:// address."""
    row: int
    """Counted from 1 within the file."""
    byte: int | None = None
    """Offset of its first byte, where the format has one."""

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}" + ("" if self.byte is None else f" (byte {self.byte})")


class BadRow(Exception):
    """A record that cannot become a row. `str()` names file, place (row or byte), field and what was found."""

    def __init__(self, place: Place, field: str, reason: str) -> None:
        super().__init__(place, field, reason)
        self.place, self.field, self.reason = place, field, reason

    def __str__(self) -> str:
        return f"{self.place}{f', field {self.field!r}' if self.field else ''}: {self.reason}"


@dataclass(frozen=True)
class Record:
    """One record of a file, with strict access to its fields. Every method raises BadRow where the field is not so."""

    value: Any
    """Parsed: a mapping for JSON, CSV and Parquet, a text for plain text."""
    place: Place
    use: Use | Literal[""] = ""
    """What its rows are wanted for: one of the reader's uses; "" only where nobody asked."""
    name: str = ""
    """Its file's, with the source's folder: all of the place that rows may depend on, for it is in the digest too."""

    def refuse(self, field: str, found: object, expected: str) -> NoReturn:
        shown = repr(found)
        raise BadRow(self.place, field, f"found {shown[:80]}{'…' if len(shown) > 80 else ''}, expected {expected}")

    def get(self, *names: str) -> Any:
        """The first of these fields that is there, None for none of them."""
        if not isinstance(self.value, Mapping):
            self.refuse("", self.value, f"an object with {' or '.join(names)}")
        return next((self.value[name] for name in names if self.value.get(name) is not None), None)

    def text(self, *names: str, empty: bool = False) -> str:
        """A text, stripped; not empty unless that is allowed."""
        found = self.get(*names)
        if not isinstance(found, str) or not (empty or found.strip()):
            self.refuse(" or ".join(names), found, "a text" if empty else "a text with something in it")
        return found.strip()

    def items(self, *names: str) -> Sequence[Any]:
        """A list; an empty one is none."""
        found = self.get(*names)
        if not isinstance(found, list | tuple) or not found:
            self.refuse(" or ".join(names), found, "a list with something in it")
        return found


Read = Callable[[Record], Iterator[dict[str, Any]]]


@dataclass(frozen=True)
class Reader:
    """A data set's reader and what holds for all its rows."""

    name: str
    read: Read
    use: Use
    """What its rows are for where the settings don't say."""
    licence: str
    """SPDX expression, "" where the rows say it themselves or nobody knows."""
    synthetic: bool
    """Whether a model wrote what is learnt from it; a row that says so itself is believed."""
    uses: tuple[Use, ...]
    """`use`, then what else it can give."""
    files: tuple[str, ...]
    """Ends of the names of the files that it reads from a folder."""
    beside: str
    """A folder beside the file, or beside the file's folder, that belongs to the data set too; "" for none."""


READERS: dict[str, Reader] = {}
"""By name; a module of this package registers its own (tasks/read_source.py imports them all)."""


def register(
    name: str,
    *,
    use: Use,
    licence: str,
    synthetic: bool,
    also: tuple[Use, ...] = (),
    beside: str = "",
    files: tuple[str, ...] = RECORD_FILES,
) -> Callable[[Read], Read]:
    """Make a function the reader of a data set. Raises ValueError when two modules claim one name."""

    def add(read: Read) -> Read:
        if name in READERS:
            raise ValueError(f"source {name!r} is registered twice, by {READERS[name].read} and {read}")
        READERS[name] = Reader(name, read, use, licence, synthetic, (use, *also), files, beside)
        return read

    return add
