"""Settings of clean-up (near-duplicates, evaluation items) and of the supervised mixes."""

import math
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from tasks.configs.base import Kind, StageConfig

WEIGHTED_PARTS = ("dialogues", "verified", "human", "sources")


class SimilarityConfig(StageConfig):
    """When two rows are near-duplicates."""

    similarity: float = Field(default=0.8, gt=0, le=1)
    """Rows whose word shingles have this Jaccard similarity or more are near-duplicates; 1 takes equal ones only."""
    shingle_words: int = Field(default=3, ge=1)
    permutations: int = Field(default=128, ge=16)
    """MinHash permutations that find candidates; the similarity itself is then computed exactly."""


class DeduplicateConfig(SimilarityConfig):
    """Exact and near-duplicates out, and everything that overlaps with an evaluation item."""

    stage: ClassVar[str] = "deduplicate"
    module: ClassVar[str] = "tasks.deduplicate"
    kind: ClassVar[Kind] = "dataset"
    version: ClassVar[int] = 2

    max_duplicate_share: float = Field(default=0.5, gt=0, le=1)
    """Where more than this part of the rows are equal or near-duplicates, whatever made them has collapsed, and the
    stage fails. Twenty rows or more are needed to say so; 1 lets everything pass."""
    ngram_words: int = Field(default=8, ge=2)
    """Length of the word sequences compared with evaluation items."""
    overlap: float = Field(default=0.5, gt=0, le=1)
    """A row is contaminated when this part of its n-grams is in one item, or of one item's n-grams in the row."""
    template_items: int = Field(default=3, ge=2)
    """N-grams found under this many item keys are the wording of a template and count for no item."""
    shard_rows: int = Field(default=1024, ge=1)


class SplitPromptsConfig(SimilarityConfig):
    """Prompts of all sources on two disjoint sides: what supervised tuning answers, and what preferences are about."""

    stage: ClassVar[str] = "split_prompts"
    module: ClassVar[str] = "tasks.split_prompts"
    kind: ClassVar[Kind] = "dataset"

    sft_share: float = Field(default=0.5, gt=0, lt=1)
    """Part of every family's rows that goes to the supervised side, before its unsafe ones are dropped."""
    shard_rows: int = Field(default=1024, ge=1)


class MixConfig(StageConfig):
    """One supervised set out of dialogues, verified answers, human rows, other data sets, replay and code."""

    stage: ClassVar[str] = "mix"
    module: ClassVar[str] = "tasks.mix"
    kind: ClassVar[Kind] = "dataset"
    version: ClassVar[int] = 3

    max_dialogues: int = Field(default=1_000_000, ge=0)
    max_verified: int = Field(default=1_000_000, ge=0)
    """Most verified answers (one per prompt, the aid taken out of the prompt), families taking turns."""
    max_human: int = Field(default=1_000_000, ge=0)
    max_sources: int = Field(default=1_000_000, ge=0)
    """Most rows of public or user data sets."""
    max_code: int = Field(default=1_000_000, ge=0)
    """Most code rows; together with code_share = 1 the size of a code set."""
    replay_share: float = Field(default=0.1, ge=0, lt=1)
    """Part of the whole set that replays the model's own best-rewarded ordinary answers."""
    code_share: float = Field(default=0.02, ge=0, le=1)
    """Part of the whole set that are code rows, at least one (paper, section 3.3.1: 2 %); 1 makes a code-only set."""
    weights: dict[str, float] | None = None
    """Parts in this proportion, not as many as there are: {"dialogues": 3, "sources": 1} takes three dialogues for each
    row of the sources. Counts are exact (largest remainders). The part that has the fewest rows for its weight goes in
    whole and so sets the size of the others; parts without a weight stay out. Replay and code keep their shares."""
    shard_rows: int = Field(default=1024, ge=1)

    @field_validator("weights")
    @classmethod
    def _weights_fit(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is None:
            return None
        if not value or not set(value) <= {*WEIGHTED_PARTS}:
            raise ValueError(f"weights are for {sorted(value)}; expected some of {[*WEIGHTED_PARTS]}")
        if min(value.values()) <= 0 or not math.isfinite(sum(value.values())):
            raise ValueError(f"weights are {value}; expected a positive number for each part that goes in")
        return value

    @model_validator(mode="after")
    def _room_for_the_rest(self) -> "MixConfig":
        if self.code_share < 1 and self.code_share + self.replay_share >= 1:
            raise ValueError(
                f"code_share={self.code_share} and replay_share={self.replay_share} leave no room for other rows"
            )
        return self
