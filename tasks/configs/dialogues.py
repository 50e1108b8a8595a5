"""Settings of the dialogues in which the generator plays both the user and the assistant."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from tasks.configs.base import StageConfig

PERSONAS_FILE = Path(__file__).parent.parent / "personas.yaml"
WORDS_FILE = PERSONAS_FILE.with_name("user_words.yaml")

Variant = Literal["normal", "complex", "concise"]
"""How a user speaks (paper, section 3.2.2): a natural follow-up, a demanding one, or a short and critical one."""


class DialoguesConfig(StageConfig):
    """Dialogues of several turns over the prompts, kept where they read well and the reward model likes them."""

    stage: ClassVar[str] = "dialogues"
    module: ClassVar[str] = "tasks.dialogues"
    version: ClassVar[int] = 3

    rows: int = Field(default=24, ge=1)
    """Dialogues to begin; fewer are kept."""
    turns: int = Field(default=3, ge=1)
    """User turns, the prompt being the first; each is followed by an answer (paper, section 3.2)."""
    min_turns: int = Field(default=2, ge=1)
    """A dialogue that breaks off earlier than `turns` is kept from this many turns on."""
    families: tuple[str, ...] = ()
    """Prompt families that open dialogues; none named takes all that suit `asking`."""
    asking: Literal["continue", "instruct", "prompts"] = "continue"
    """How the next user turn comes about. "continue": the generator goes on with the user's next message, which the
    persona opens with a few words; fits small models. "instruct": the generator is shown the dialogue and asked for
    the persona's follow-up; fits large ones. "prompts": another prompt of the same family follows, its answer checked
    by ground truth; fits a procedural world. The first two leave prompts with a verifier out."""
    personas: tuple[str, ...] = ()
    """Names out of personas.yaml; none named takes all. Each dialogue draws one, and a variant, from its seed."""
    variants: dict[Variant, float] = {"normal": 0.4, "complex": 0.3, "concise": 0.3}
    """How often each variant is drawn, as shares of their sum."""
    max_tokens: int = Field(default=80, ge=1)
    """Most tokens of an answer; one that runs into the limit is cut after its last whole sentence."""
    temperature: float = Field(default=0.0, ge=0)
    """Of the answers; the paper's dialogues are greedy in both roles."""
    user_max_tokens: int = Field(default=32, ge=1)
    user_temperature: float = Field(default=0.0, ge=0)
    """Of the user's turns. A small model repeats itself where it is greedy: it does better with 0.7 and some drafts."""
    user_top_p: float = Field(default=0.9, gt=0, le=1)
    user_samples: int = Field(default=1, ge=1)
    """Drafts of each user turn; the first that is a user's turn is taken. More than one needs a `user_temperature`."""
    reward_threshold: float | None = None
    """Dialogues with a smaller reward are dropped (the paper gives no value)."""
    keep_share: float = Field(default=1.0, gt=0, le=1)
    """Best part of each shard's dialogues, by reward, that is kept."""
    shard_rows: int = Field(default=32, ge=1)
    """Dialogues of one shard; they are written turn by turn in one batch."""

    @field_validator("variants")
    @classmethod
    def _some_variant(cls, value: dict[Variant, float]) -> dict[Variant, float]:
        if not sum(value.values()) > 0 or min(value.values()) < 0:
            raise ValueError(f"shares are {value}; expected none below 0 and one above")
        return value

    @model_validator(mode="after")
    def _drafts_differ(self) -> "DialoguesConfig":
        if self.user_samples > 1 and not self.user_temperature:
            raise ValueError(
                f"user_samples is {self.user_samples} at user_temperature 0, where all drafts are equal; set "
                "user_samples to 1 or a user_temperature such as 0.7"
            )
        return self

    def recipe(self) -> dict[str, Any]:
        data = PERSONAS_FILE.read_bytes() + WORDS_FILE.read_bytes()
        return super().recipe() | {"data": hashlib.sha256(data).hexdigest()[:32]}
