"""Settings of the dialogues in which the generator plays both the user and the assistant."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.configs.base import StageConfig

PERSONAS_FILE = Path(__file__).parent.parent / "personas.yaml"


class DialoguesConfig(StageConfig):
    """Dialogues of several turns over the prompts, kept where they read well and the reward model likes them."""

    stage: ClassVar[str] = "dialogues"
    module: ClassVar[str] = "tasks.dialogues"
    version: ClassVar[int] = 2

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
    """Names out of personas.yaml; none named takes all."""
    max_tokens: int = Field(default=80, ge=1)
    """Most tokens of an answer; one that runs into the limit is cut after its last whole sentence."""
    temperature: float = Field(default=0.0, ge=0)
    user_max_tokens: int = Field(default=32, ge=1)
    user_temperature: float = Field(default=0.7, ge=0)
    user_top_p: float = Field(default=0.9, gt=0, le=1)
    user_samples: int = Field(default=3, ge=1)
    """Drafts of each user turn; the first that is a user's turn is taken."""
    reward_threshold: float | None = None
    """Dialogues with a smaller reward are dropped (the paper gives no value)."""
    keep_share: float = Field(default=1.0, gt=0, le=1)
    """Best part of each shard's dialogues, by reward, that is kept."""
    shard_rows: int = Field(default=32, ge=1)
    """Dialogues of one shard; they are written turn by turn in one batch."""

    def recipe(self) -> dict[str, Any]:
        return super().recipe() | {"data": hashlib.sha256(PERSONAS_FILE.read_bytes()).hexdigest()[:32]}
