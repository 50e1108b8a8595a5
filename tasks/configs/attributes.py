"""Settings of the labelled answers that the reward model learns from."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from infra.errors import InputError
from tasks.configs.base import Kind, StageConfig

QUESTIONS_FILE = Path(__file__).parent.parent / "attributes.yaml"
PROCEDURAL = ("rows_per_prompt", "prompts", "max_tokens", "temperature", "shard_prompts")


class AttributesConfig(StageConfig):
    """HelpSteer2's human labels where the user has the files, else answers damaged on purpose."""

    stage: ClassVar[str] = "attributes"
    module: ClassVar[str] = "tasks.attributes"
    kind: ClassVar[Kind] = "dataset"
    version: ClassVar[int] = 3

    helpsteer2: str = ""
    """File with HelpSteer2's rows (.jsonl, .jsonl.gz or .parquet), identified by its content; empty: procedural set."""
    max_rows: int = Field(default=1_000_000, ge=1)
    """Most rows read from that file, from its beginning."""
    prompts: int = Field(default=24, ge=2)
    """Questions that the generator answers for the procedural set."""
    rows_per_prompt: int = Field(default=4, ge=2, le=10)
    """The answer itself and its damaged copies: several per prompt, so that the accuracy on pairs can be measured."""
    max_tokens: int = Field(default=160, ge=16)
    temperature: float = Field(default=0.0, ge=0)
    shard_prompts: int = Field(default=32, ge=2)

    @field_validator("prompts")
    @classmethod
    def _enough_questions(cls, value: int) -> int:
        curated = QUESTIONS_FILE.read_text(encoding="utf-8").count("\n- ")
        if value > curated:
            raise ValueError(f"prompts={value}, but the curated list has {curated} questions")
        return value

    @property
    def source(self) -> Literal["helpsteer2", "procedural-damage"]:
        return "helpsteer2" if self.helpsteer2 else "procedural-damage"

    def recipe(self) -> dict[str, Any]:
        """A file is identified by its content's hash, wherever it lies. Raises InputError when it cannot be read."""
        values = super().recipe()
        if not self.helpsteer2:
            kept = {name: value for name, value in values.items() if name not in ("helpsteer2", "max_rows")}
            return kept | {"questions": _digest(QUESTIONS_FILE)}
        kept = {name: value for name, value in values.items() if name not in PROCEDURAL}
        return kept | {"helpsteer2": _digest(Path(self.helpsteer2))}


def _digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"attributes.helpsteer2: {path}: {error.strerror or error}",
            "give HelpSteer2's train.jsonl.gz, or leave the setting empty for the procedural set",
        ) from error
