"""Settings of an examination."""

from typing import ClassVar, Literal

from pydantic import Field

from tasks.configs.base import Kind, StageConfig


class EvaluateConfig(StageConfig):
    """Greedy answers to one half of the evaluation items, checked by ground truth where there is one."""

    stage: ClassVar[str] = "evaluate"
    module: ClassVar[str] = "tasks.evaluate"
    kind: ClassVar[Kind] = "evaluation"
    version: ClassVar[int] = 2

    half: Literal["dev", "gate"] = "dev"
    """The development half serves tuning and the stage table; the gate half is opened by the gate only."""
    families: tuple[str, ...] = ()
    """Families to ask; empty for all."""
    max_items: int = Field(default=1_000_000, ge=1)
    """Most items asked, families taking turns in the order of the items' ids."""
    max_tokens: int = Field(default=192, ge=1)
    shard_items: int = Field(default=64, ge=1)
