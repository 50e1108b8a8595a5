"""Settings of the choice that ends a search over hyperparameters."""

from typing import ClassVar

from pydantic import Field

from tasks.configs.base import Kind, StageConfig


class TuneConfig(StageConfig):
    """Which of several trainings of one step goes on, by their answers to the development half."""

    stage: ClassVar[str] = "tune"
    module: ClassVar[str] = "tasks.tune"
    kind: ClassVar[Kind] = "dataset"

    tie_errors: float = Field(default=1.0, ge=0)
    """Candidates count as tied with the best within this many standard errors of the paired difference; 0 takes the
    best as it stands."""
