"""Settings of the evaluation set: how many items of each family are in each half."""

from typing import Any, ClassVar

from pydantic import Field, NonNegativeInt, model_validator

from tasks.configs.base import StageConfig
from tasks.configs.prompts import HELD_OUT_KINDS, TRAINED_KINDS, data_digest, known_kinds


class EvaluationSetConfig(StageConfig):
    """A fixed set of questions, made by rule and by hand. The gate half is sealed: nothing is tuned on it."""

    stage: ClassVar[str] = "evaluation_set"
    module: ClassVar[str] = "tasks.evaluation_set"
    version: ClassVar[int] = 2

    seed: int = Field(default=0, ge=0, le=0)
    """Always 0: one evaluation set for all iterations and lineages."""
    dev: dict[str, NonNegativeInt] = {
        "instruction": 24,
        "held_out_instruction": 8,
        "ordinary": 10,
        "maths": 6,
        "open": 12,
    }
    """Items by family in the development half: for tuning, model selection and the stage table."""
    gate: dict[str, NonNegativeInt] = {
        "instruction": 160,
        "held_out_instruction": 48,
        "ordinary": 60,
        "maths": 16,
        "open": 12,
    }
    """Items by family in the gate half; all but "open" are judged by ground truth."""
    trained_kinds: tuple[str, ...] = TRAINED_KINDS
    """Instruction kinds of the family "instruction"."""
    held_out_kinds: tuple[str, ...] = HELD_OUT_KINDS
    """Instruction kinds of the family "held_out_instruction": never in a training prompt."""

    def recipe(self) -> dict[str, Any]:
        return super().recipe() | {"data": data_digest("evaluation_items", "prompts/instructions")}

    @model_validator(mode="after")
    def _disjoint(self) -> "EvaluationSetConfig":
        known_kinds((*self.trained_kinds, *self.held_out_kinds))
        if both := set(self.trained_kinds) & set(self.held_out_kinds):
            raise ValueError(f"instruction kinds {sorted(both)} are both trained and held out: take them out of one")
        return self
