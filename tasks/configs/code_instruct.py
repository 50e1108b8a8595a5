"""Settings of Genetic Instruct: coding instructions that mutate, cross over and survive by fitness (paper, 3.3.1)."""

from typing import Any, ClassVar

from pydantic import Field

from tasks.configs.base import StageConfig
from tasks.configs.prompts import data_digest


class CodeInstructConfig(StageConfig):
    """Colonies of Python instructions with solutions, each evolved on its own, then deduplicated together."""

    stage: ClassVar[str] = "code_instruct"
    module: ClassVar[str] = "tasks.code_instruct"
    version: ClassVar[int] = 3

    colonies: int = Field(default=2, ge=1)
    generations: int = Field(default=2, ge=1)
    population: int = Field(default=10, ge=1)
    """Children that each colony draws in each generation."""
    target: int = Field(default=24, ge=1)
    """Most generated rows to keep, the fittest first; the hand-written seeds come on top."""
    crossover_share: float = Field(default=0.5, ge=0, le=1)
    """Probability that a child has several parents instead of one that mutates."""
    crossover_parents: int = Field(default=2, ge=2)
    """Parents of a child that is no mutation."""
    instruction_temperature: float = Field(default=0.8, ge=0)
    instruction_top_p: float = Field(default=0.95, gt=0, le=1)
    instruction_max_tokens: int = Field(default=32, ge=1)
    """Most tokens after the words that open the task."""
    code_temperature: float = Field(default=0.2, ge=0)
    code_top_p: float = Field(default=0.95, gt=0, le=1)
    code_max_tokens: int = Field(default=96, ge=1)
    fit_share: float = Field(default=0.6, gt=0, le=1)
    """Part of a colony's parsed children that survive, by the judge's log-odds of a pass. A small judge's odds lean to
    one side, so a rank is safer than a fixed threshold."""
    calibrated: bool = True
    """Take from the log-odds those of the same task with an empty solution: a small judge says Yes to some tasks
    whatever the code is. Costs a second reading of each child."""
    similarity: float = Field(default=0.7, gt=0, le=1)
    """Instructions whose sequences of three words have this Jaccard similarity or more are duplicates."""
    shard_rows: int = Field(default=1024, ge=1)

    def recipe(self) -> dict[str, Any]:
        return super().recipe() | {"data": data_digest("code_seeds.yaml", "code_instruct.yaml")}
