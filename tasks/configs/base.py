"""What every stage's config has: a recipe that is hashed, and resources that never are."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["dataset", "checkpoint", "evaluation", "verdict", "report"]


class Config(BaseModel):
    """Frozen, closed to unknown keys, defaults validated too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Resources(Config):
    """Where and how fast; never part of an artifact's identity."""

    cpus: int = Field(default=0, ge=0)
    """CPU cores reserved for the job, which is also torch's thread count; 0 takes all cores of the node."""
    gpus: int = Field(default=0, ge=0)
    """GPUs reserved for the job's driver."""
    nodes: int = Field(default=1, ge=1)
    tensor_parallel: int = Field(default=1, ge=1)
    batch_rows: int = Field(default=64, ge=1)
    """Rows that the generation engine holds at once."""
    microbatch_tokens: int = Field(default=2048, ge=16)
    """Most tokens in one packed forward and backward pass."""
    checkpoint_every_s: float = Field(default=60.0, gt=0)
    """Seconds between a training stage's own resume checkpoints."""


class StageConfig(Config):
    """One stage's settings. `recipe()` goes into the fingerprint, `resources` stays out of it."""

    stage: ClassVar[str]
    """The stage's name: first part of its artifacts' address."""
    module: ClassVar[str]
    """Module under tasks/ whose `run` does the work."""
    kind: ClassVar[Kind] = "dataset"
    version: ClassVar[int] = 1
    """Raised when the stage's code changes what it makes."""

    seed: int = 0
    salt: str = ""
    """Separates lineages (`--fresh`); empty in an ordinary run."""
    resources: Resources = Resources()

    def recipe(self) -> dict[str, Any]:
        """What is made, as plain JSON values: everything but `resources`."""
        return self.model_dump(mode="json", exclude={"resources"})
