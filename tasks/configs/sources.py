"""Settings of bringing rows in from outside: a public data set that the user has a copy of, or the user's own file."""

import re
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, field_serializer, model_validator

from tasks.configs.base import StageConfig
from tasks.sources.places import content_digest

_READERS = Path(__file__).parent.parent / "sources"

Use = Literal["prompts", "openers", "documents", "python_files", "dialogues", "preferences", "attributes"]
"""What the loop does with a source: answers its prompts, opens two-turn prompts with them, asks about its documents,
mines its Python files for keywords, learns its dialogues, trains on its preferences, trains the reward model on its
attributes."""

TEXTS: tuple[Use, ...] = ("documents", "python_files")
"""Uses whose rows are plain text, which a model can be pretrained on."""
YOURS: Final = "?"
"""The path, in a preset, of what only its user has: a plan in which one is left is refused."""


@cache
def source_readers() -> list[str]:
    """Names that the modules under tasks/sources/ register, told from their text: importing them all takes long."""
    texts = [path.read_text(encoding="utf-8") for path in _READERS.glob("*.py")]
    return sorted(name for text in texts for name in re.findall(r'^@register\(\s*"([^"]+)"', text, re.MULTILINE))


@cache
def made_for(reader: str) -> str:
    """The use that a reader is registered with, told from its text too."""
    return _registered(reader, "use")


@cache
def folder_beside(reader: str) -> str:
    """The neighbouring folder that a reader is registered with, "" for none, told likewise."""
    return _registered(reader, "beside")


def _registered(reader: str, setting: str) -> str:
    told = re.compile(rf'^@register\(\s*"{re.escape(reader)}"[^)]*\b{setting}="(\w+)"', re.MULTILINE)
    found = [told.search(path.read_text(encoding="utf-8")) for path in _READERS.glob("*.py")]
    return next((match.group(1) for match in found if match), "")


class SourceConfig(StageConfig):
    """One file or folder of one data set, identified by its content."""

    stage: ClassVar[str] = "source"
    module: ClassVar[str] = "tasks.read_source"

    reader: str = Field(min_length=1)
    """The data set's name, as a module under tasks/sources/ registers it (docs/data.md lists them)."""
    path: str = Field(min_length=1)
    """File or folder on the machine that runs the stage, or s3://BUCKET/KEY. Names and contents identify it,
    with the name of the folder, never the place. Of a folder, files of a test split are left out."""
    digest: str = Field(default="", pattern=r"^([0-9a-f]{32})?$")
    """`content_digest` of the source as it was planned; "" is filled in when the settings go to the job, which compares
    it with what it reads."""
    use: Use | Literal[""] = ""
    """What the rows are for; "" takes what the reader is made for."""
    family: str = ""
    """Prompt family of its rows; "" takes the reader's name."""
    max_rows: int = Field(default=1_000_000, ge=1)
    """Most rows taken, from the beginning, after the filters."""
    bad_rows: Literal["fail", "quarantine"] = "fail"
    """"fail" stops at the first row that is not as it should be; "quarantine" leaves it out and lists it."""
    max_bad_share: float = Field(default=0.01, ge=0, le=1)
    """Largest share of bad rows that "quarantine" puts up with."""
    languages: tuple[str, ...] = ()
    """Languages to keep (ISO 639-1, such as "en"), as the data set says or told from the text; none named takes all."""
    licences: tuple[str, ...] = ()
    """Licences to keep (SPDX); none named takes all."""
    licence: str = ""
    """Licence of a user's own file, or where the reader's statement does not hold; "" takes the reader's."""
    min_chars: int = Field(default=1, ge=0)
    max_chars: int = Field(default=100_000, ge=1)
    """Length of a row's text, all its messages together."""
    synthetic: bool | None = None
    """Whether a model wrote the answers; null takes what the reader says. Human rows count as not synthetic."""
    shard_rows: int = Field(default=4096, ge=1)
    """Records read per shard, before the filters: what is read again at most when the stage is killed."""

    @model_validator(mode="after")
    def _reader_and_lengths(self) -> "SourceConfig":
        if self.reader not in source_readers():
            raise ValueError(f"no source reader {self.reader!r}; readers: {', '.join(source_readers())}")
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars is {self.min_chars} and max_chars {self.max_chars}: no text has such a length")
        return self

    @field_serializer("digest", when_used="json")
    def _digest(self, digest: str) -> str:
        return digest or self.current_digest()

    @property
    def purpose(self) -> str:
        """What `use` comes to."""
        return self.use or made_for(self.reader)

    def current_digest(self) -> str:
        """Of what is there now. Raises InputError when it cannot be read."""
        return content_digest(self.path, folder_beside(self.reader))

    def recipe(self) -> dict[str, Any]:
        """The content's digest, never the path. Raises InputError when it cannot be read."""
        values = self.model_dump(mode="json", exclude={"resources", "path", "digest"})
        return values | {"digest": self.digest or self.current_digest()}
