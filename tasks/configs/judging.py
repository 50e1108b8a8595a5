"""Settings of judging and of the two preference sets."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tasks.configs.base import Kind, StageConfig


class JudgingConfig(StageConfig):
    """Responses get five attributes and a reward; some pairs are also shown to the LLM judge."""

    stage: ClassVar[str] = "judge"
    module: ClassVar[str] = "tasks.judge"
    kind: ClassVar[Kind] = "dataset"
    version: ClassVar[int] = 4

    truth_prompts: int = Field(default=1_000_000, ge=0)
    """Prompts with passing and failing answers that the reward model scores, to measure it. Ground truth alone decides
    on answers that it can check, so the other ones are left without scores. Open answers are all scored."""
    llm_pairs: int = Field(default=12, ge=0)
    """Pairs of answers to open prompts that the LLM judges, each in both orders."""
    llm_truth_pairs: int = Field(default=6, ge=0)
    """Pairs with a ground-truth verdict that the LLM judges too, to measure it; they never become its verdicts."""
    min_margin: float = Field(default=0.0, ge=0)
    """Smallest difference of rewards that counts as the reward model's verdict in the agreement table."""
    shard_rows: int = Field(default=64, ge=1)


class PreferencesConfig(StageConfig):
    """Pairs by precedence: ground truth, then the reward model, then consistent verdicts of the LLM."""

    stage: ClassVar[str] = "preferences"
    module: ClassVar[str] = "tasks.preferences"
    kind: ClassVar[Kind] = "dataset"
    version: ClassVar[int] = 2

    objective: Literal["dpo", "rpo"] = "dpo"
    """DPO wants good chosen answers (strict floor); RPO knows the gap and takes a milder one (paper, section 3.3.2)."""
    chosen_floor: float = Field(default=0.5, ge=0, le=1)
    """Where no truth exists, the chosen answer's reward is at least this quantile of all open answers' rewards."""
    min_margin: float = Field(default=0.25, ge=0)
    """Smallest gap of a pair that the reward model ranks, in standard deviations of the open answers' rewards."""
    truth_gap: float = Field(default=2.0, gt=0)
    """Reward gap given to pairs that ground truth or the LLM decided, and to those of other data sets that come without
    rewards; the reward model's values are not used there."""
    pairs_per_prompt: int = Field(default=1, ge=1)
    max_pairs: int = Field(default=100_000, ge=1)
    """Families and judges take turns until this many pairs are taken."""
    max_similarity: float = Field(default=0.9, gt=0, le=1)
    """Pairs of a reward-model or LLM verdict whose answers share more than this part of their words are dropped."""
    allow_truncated: bool = False
    """Whether an answer that ran into its token limit may be chosen."""
    part: int = Field(default=0, ge=0)
    parts: int = Field(default=1, ge=1)
    """Prompts are split into `parts` disjoint parts by their ids, and this set takes number `part`."""
    shard_rows: int = Field(default=1024, ge=1)

    @model_validator(mode="after")
    def _part_exists(self) -> "PreferencesConfig":
        if self.part >= self.parts:
            raise ValueError(f"part={self.part} of parts={self.parts}: parts are numbered from 0")
        return self
