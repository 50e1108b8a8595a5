"""Settings of the stages that write prompts: topics, then prompt families over them (paper, section 3.2)."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from tasks.configs.base import StageConfig
from tasks.prompts.formats import FORMATS
from tasks.prompts.instructions import KINDS
from tasks.prompts.instructions.base import Form
from tasks.prompts.instructions.kinds import kinds_for

_TASKS = Path(__file__).parent.parent

TRAINED_KINDS = (
    "lower_case", "capitals", "quotes", "json", "end_phrase",
    "bullets", "title", "max_words", "two_parts", "exclamations",
)  # fmt: skip
HELD_OUT_KINDS = ("start_phrase", "numbered", "square_brackets", "one_sentence", "no_commas", "keyword")
"""Never in a training prompt, so that the evaluation sees what carries over to instructions that nobody taught."""

VOCABULARY = ("topics.yaml", "documents.yaml", "personas.yaml")
"""Texts under tasks/ whose words count as real ones in mined code, beside the list in keywords.yaml."""


def known_kinds(kinds: Iterable[str]) -> None:
    """Raises ValueError for an instruction kind that nobody registered."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"unknown instruction kinds {unknown}; known: {', '.join(sorted(KINDS))}")


def known_formats(weights: Mapping[str, float]) -> None:
    """Raises ValueError for an answer format without a wording, or weights that no draw can follow."""
    if unknown := [name for name in weights if name not in FORMATS]:
        raise ValueError(f"unknown answer formats {unknown}; known: {', '.join(sorted(FORMATS))}")
    if min(weights.values(), default=0) < 0 or not sum(weights.values()):
        raise ValueError(f"answer_formats={weights}: expected weights of 0 or more, one of them above 0")


def data_digest(*places: str) -> str:
    """128 bits over the YAML files in these places under tasks/: a changed template or list is another recipe."""
    digest = hashlib.sha256()
    for place in places:
        for path in sorted([_TASKS / place, *(_TASKS / place).glob("*.yaml")]):
            if path.is_file():
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


def prompt_families() -> list[str]:
    """Names of the families: modules under tasks/prompts/ with a template file of the same name."""
    return sorted(path.stem for path in (_TASKS / "prompts").glob("*.yaml") if path.with_suffix(".py").exists())


class TopicsConfig(StageConfig):
    """Macro topics, their subtopics, and a curated list, merged without duplicates."""

    stage: ClassVar[str] = "topics"
    module: ClassVar[str] = "tasks.topics"
    version: ClassVar[int] = 4

    n_macro: int = Field(default=6, ge=0)
    """Macro topics to ask the generator for; 0 asks it for none."""
    n_sub: int = Field(default=5, ge=0)
    """Subtopics to ask for under each macro topic."""
    per_call: int = Field(default=10, ge=1)
    """Most topics that one call asks for; a longer list takes several calls, each told what there is already."""
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


class KeywordsConfig(StageConfig):
    """What problems of maths and Python are about: from topics, classified names, Python files, and picked by hand.

    The four origins take turns, so that each has its share of a target.
    """

    stage: ClassVar[str] = "keywords"
    module: ClassVar[str] = "tasks.keywords"

    python_target: int = Field(default=30, ge=1)
    """Python keywords to keep. The paper has 12,000."""
    maths_target: int = Field(default=30, ge=1)
    """Maths keywords to keep. The paper has 17,000."""
    topics: int = Field(default=6, ge=0)
    """Topics under which the generator is asked for keywords, of each field; 0 asks for none."""
    per_topic: int = Field(default=3, ge=1)
    """Keywords to ask for under a topic."""
    entities: int = Field(default=40, ge=0)
    """Names of the bundled list that the generator classifies, in a seeded order; 0 classifies none."""
    mined: bool = True
    """Mine the Python files given, or those that ship with the project."""
    min_files: int = Field(default=2, ge=1)
    """Files that a mined keyword must be in."""
    picked: bool = True
    """Use the hand-picked lists."""
    temperature: float = Field(default=0.6, ge=0)
    """Of the lists; names are classified greedily."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    constrain_lists: bool = True
    """Where a list is asked for, let nothing else be written: small models go astray otherwise."""

    @model_validator(mode="after")
    def _has_a_source(self) -> "KeywordsConfig":
        if not (self.topics or self.entities or self.picked):
            raise ValueError("topics=0, entities=0 and picked=False leave no maths keyword: set one of them")
        return self

    def recipe(self) -> dict[str, Any]:
        return super().recipe() | {
            "data": data_digest("keywords.yaml", "code_seeds.yaml", *VOCABULARY, "evaluation_items/topics.yaml")
        }


class PromptsConfig(StageConfig):
    """Prompts of several families over the topics, written by the generator."""

    stage: ClassVar[str] = "prompts"
    module: ClassVar[str] = "tasks.write_prompts"
    version: ClassVar[int] = 4

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
    """Where a list, or a text of a certain beginning or end, is asked for, let nothing else be written: small models go
    astray otherwise."""
    convert_lists: bool = False
    """Where an answer is no list, ask the generator to turn it into YAML (the paper's second call)."""
    answer_formats: dict[str, float] = {
        "paragraph": 0.5, "list": 0.15, "steps": 0.1, "json": 0.1, "yes_no": 0.1, "table": 0.05,
    }  # fmt: skip
    """How open and closed questions are to be answered, by weight (tasks/prompts/answer_formats.yaml)."""
    document_words: int = Field(default=120, ge=20)
    """Most words of a document that a closed question is about; a longer one ends at the last sentence that fits."""
    keyword_maths: float = Field(default=0.25, ge=0, le=1)
    """Part of the maths problems that the generator writes alone, from a keyword; nothing can check their answers."""
    kinds: tuple[str, ...] = TRAINED_KINDS
    """Verifiable instructions to train on, in equal shares."""
    held_out_kinds: tuple[str, ...] = HELD_OUT_KINDS
    """Kinds that no prompt may have, as in the evaluation set."""
    instructions_per_prompt: int = Field(default=1, ge=1, le=5)
    """Most instructions of one prompt; how many is drawn, and only kinds that cannot contradict each other meet."""
    forms: dict[Form, NonNegativeFloat] = {"single_turn": 0.8, "multi_turn": 0.1, "second_turn": 0.1}
    """Shares of the forms in which instructions are given; from ten prompts on each form with a share has one."""
    shard_rows: int = Field(default=256, ge=1)
    """Prompts wanted per shard: what is lost at most when the stage is killed."""

    @model_validator(mode="after")
    def _families_and_kinds(self) -> "PromptsConfig":
        known = prompt_families()
        if unknown := [family for family in self.families if family not in known]:
            raise ValueError(f"no prompt family {unknown}; families: {', '.join(known)}")
        if not self.families:
            raise ValueError(f"families={self.families}: name at least one of {', '.join(known)}")
        known_formats(self.answer_formats)
        known_kinds((*self.kinds, *self.held_out_kinds))
        if both := sorted(set(self.kinds) & set(self.held_out_kinds)):
            raise ValueError(f"instruction kinds {both} are both trained and held out: take them out of one")
        return self

    @model_validator(mode="after")
    def _forms_have_kinds(self) -> "PromptsConfig":
        if not any(self.forms.values()):
            raise ValueError(f"forms={self.forms}: give at least one form a share above 0")
        if bare := [form for form, share in self.forms.items() if share and not kinds_for(form, self.kinds)]:
            raise ValueError(
                f"none of the kinds {list(self.kinds)} can be asked as {bare}: set those forms' shares to 0"
            )
        return self

    def recipe(self) -> dict[str, Any]:
        return super().recipe() | {
            "data": data_digest(
                "prompts", "prompts/instructions", "documents.yaml", "keywords.yaml", "personas.yaml", "user_words.yaml"
            )
        }
