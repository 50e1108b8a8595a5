"""Settings of the procedural world (tasks/world/grammar.py), which a model that starts from nothing learns from."""

from typing import ClassVar

from pydantic import Field

from tasks.configs.base import Kind, StageConfig


class DocumentsConfig(StageConfig):
    """Documents for pretraining: questions and answers in plain text, no chat."""

    stage: ClassVar[str] = "world-documents"
    module: ClassVar[str] = "tasks.world.documents"

    documents: int = Field(default=20_000, ge=1)
    weights: dict[str, float] = {}
    """Share of each question family against the others, 1 where none is given (the continued phase up-weights)."""
    shard_rows: int = Field(default=10_000, ge=1)


class TokenizerConfig(StageConfig):
    """A tokenizer of whole words with a chat template of its own."""

    stage: ClassVar[str] = "world-tokenizer"
    module: ClassVar[str] = "tasks.world.tokenizer"
    kind: ClassVar[Kind] = "checkpoint"


class HumanRowsConfig(StageConfig):
    """The few conversations that a person would write: answers, and questions on request."""

    stage: ClassVar[str] = "world-human"
    module: ClassVar[str] = "tasks.world.human"
    version: ClassVar[int] = 2

    answers: int = Field(default=36, ge=1)
    questions: int = Field(default=36, ge=1)


class WorldItemsConfig(StageConfig):
    """Evaluation items out of the reserved questions."""

    stage: ClassVar[str] = "world-items"
    module: ClassVar[str] = "tasks.world.items"

    dev: int = Field(default=60, ge=2)
    gate: int = Field(default=300, ge=2)
    open: int = Field(default=16, ge=0)
    """Open items of each half, judged by the reward model only."""


class WorldPromptsConfig(StageConfig):
    """Questions that the generator writes when asked for one of a family; kept when they are well formed."""

    stage: ClassVar[str] = "world-prompts"
    module: ClassVar[str] = "tasks.world.prompts"
    version: ClassVar[int] = 3

    asked: int = Field(default=360, ge=1)
    """Requests to the generator, the families taking turns."""
    temperature: float = Field(default=1.0, ge=0)
    max_tokens: int = Field(default=28, ge=4)


class WorldAttributesConfig(StageConfig):
    """Answers, right and damaged, with the five attributes that the damage leaves them."""

    stage: ClassVar[str] = "world-attributes"
    module: ClassVar[str] = "tasks.world.attributes"

    prompts: int = Field(default=150, ge=2)


class ShuffleAnswersConfig(StageConfig):
    """The same rows with their last answers dealt out anew: what format without content teaches."""

    stage: ClassVar[str] = "shuffled-answers"
    module: ClassVar[str] = "tasks.world.shuffle"
    version: ClassVar[int] = 2
