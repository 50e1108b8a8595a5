"""Settings of the gate."""

from typing import ClassVar, Literal

from pydantic import Field

from tasks.configs.base import Kind, StageConfig


class GateConfig(StageConfig):
    """Whether the candidate replaces the generator: truth decides, the reward model may veto and informs."""

    stage: ClassVar[str] = "gate"
    module: ClassVar[str] = "tasks.gate"
    kind: ClassVar[Kind] = "verdict"

    min_gain: float = Field(default=0.01, ge=0, lt=1)
    """Smallest gain in truth-judged accuracy, as a fraction, that is worth a promotion."""
    confidence: float = Field(default=0.975, gt=0.5, lt=1)
    """Of the one-sided lower bound, which must be above 0; 0.975 is the lower end of the usual 95 % interval."""
    cluster_by: Literal["group", "key"] = "group"
    """What is resampled together: "group", an item key's part before the first "/" (a kind of instruction, a sort
    of question), because training moves whole kinds up or down; or "key", the single parameter or topic."""
    regression_level: float = Field(default=0.05, gt=0, lt=0.5)
    """Chance, over all families together (Holm), that an equal model is blocked for a regression."""
    min_items: int = Field(default=200, ge=2)
    """With fewer paired truth-judged items the verdict is "insufficient"."""
    min_clusters: int = Field(default=6, ge=2)
    """With fewer clusters the bootstrap says too little: "insufficient"."""
    veto_win_rate: float | None = Field(default=0.4, gt=0, lt=1)
    """The reward model vetoes when the win rate on open items is surely below this; null for no veto."""
    resamples: int = Field(default=10_000, ge=1000)
    max_flips: int = Field(default=50, ge=0)
    """Items of each direction kept with both answers, for the report."""
