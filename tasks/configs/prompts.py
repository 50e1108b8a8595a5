"""Settings of the stages that write prompts: topics, then prompt families over them (paper, section 3.2)."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PositiveInt, model_validator

from tasks.configs.base import StageConfig
from tasks.prompts.instructions import KINDS

_TASKS = Path(__file__).parent.parent

TRAINED_KINDS = (
    "lower_case", "capitals", "quotes", "json", "end_phrase",
    "bullets", "title", "max_words", "two_parts", "exclamations",
)  # fmt: skip
HELD_OUT_KINDS = ("start_phrase", "numbered", "square_brackets", "one_sentence", "no_commas", "keyword")
"""Never in a training prompt, so that the evaluation sees what carries over to instructions that nobody taught."""


def known_kinds(kinds: Iterable[str]) -> None:
    """Raises ValueError for an instruction kind that nobody registered."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"unknown instruction kinds {unknown}; known: {', '.join(sorted(KINDS))}")


def data_digest(*places: str) -> str:
    """128 bits over the YAML files in these places under tasks/: a changed template or list is another recipe."""
    digest = hashlib.sha256()
    for place in places:
        for path in sorted([_TASKS / place, *(_TASKS / place).glob("*.yaml")]):
            if path.is_file():
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


class TopicsConfig(StageConfig):
    """Macro topics, their subtopics, and a curated list, merged without duplicates."""

    stage: ClassVar[str] = "topics"
    module: ClassVar[str] = "tasks.topics"
    version: ClassVar[int] = 3

    n_macro: int = Field(default=6, ge=0)
    """Macro topics to ask the generator for; 0 asks it for none."""
    n_sub: int = Field(default=5, ge=0)
    """Subtopics to ask for under each macro topic."""
    curated: bool = True
    """Merge with the list that ships with the project."""
    target: int = Field(default=60, ge=1)
    """Topics to keep: the generator's first, then curated ones in a seeded order. The paper has 3,000."""
    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=0.9, gt=0, le=1)
    constrain_lists: bool = True
    """Where a list is asked for, let nothing else be written: small models go astray otherwise."""

    @model_validator(mode="after")
    def _has_a_source(self) -> "TopicsConfig":
        if not self.curated and not self.n_macro:
            raise ValueError("n_macro=0 and curated=False leave no topic: set n_macro above 0 or curated=True")
        return self

    def recipe(self) -> dict[str, Any]:
        return super().recipe() | {"data": data_digest("topics.yaml", "evaluation_items/topics.yaml")}


class PromptsConfig(StageConfig):
    """Prompts of several families over the topics, written by the generator."""

    stage: ClassVar[str] = "prompts"
    module: ClassVar[str] = "tasks.write_prompts"
    version: ClassVar[int] = 3

    families: dict[str, PositiveInt] = {"open_qa": 30, "writing": 16, "maths": 16, "instruction": 48}
    """Prompts wanted by family; a family is a module under tasks/prompts/."""
    per_call: int = Field(default=3, ge=1)
    """Questions or tasks that one call asks for."""
    oversample: float = Field(default=1.8, ge=1)
    """Drafts asked for per prompt wanted: some are rejected."""
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=0.9, gt=0, le=1)
    max_tokens: int = Field(default=96, ge=16)
    """Most tokens of one call's answer."""
    constrain_lists: bool = True
    """Where a list is asked for, let nothing else be written: small models go astray otherwise."""
    convert_lists: bool = False
    """Where an answer is no list, ask the generator to turn it into YAML (the paper's second call)."""
    kinds: tuple[str, ...] = TRAINED_KINDS
    """Verifiable instructions to train on, in equal shares."""
    held_out_kinds: tuple[str, ...] = HELD_OUT_KINDS
    """Kinds that no prompt may have, as in the evaluation set."""
    shard_rows: int = Field(default=256, ge=1)
    """Prompts wanted per shard: what is lost at most when the stage is killed."""

    @model_validator(mode="after")
    def _families_and_kinds(self) -> "PromptsConfig":
        known = {path.stem for path in (_TASKS / "prompts").glob("*.yaml") if path.with_suffix(".py").exists()}
        if unknown := [family for family in self.families if family not in known]:
            raise ValueError(f"no prompt family {unknown}; families: {', '.join(sorted(known))}")
        if not self.families:
            raise ValueError(f"families={self.families}: name at least one of {', '.join(sorted(known))}")
        known_kinds((*self.kinds, *self.held_out_kinds))
        if both := sorted(set(self.kinds) & set(self.held_out_kinds)):
            raise ValueError(f"instruction kinds {both} are both trained and held out: take them out of one")
        return self

    def recipe(self) -> dict[str, Any]:
        return super().recipe() | {"data": data_digest("prompts", "prompts/instructions")}
