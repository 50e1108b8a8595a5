"""Settings of the training stages. The paper's learning rates are for 340 B parameters; presets set their own."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from models.config import Family, ModelConfig
from tasks.configs.base import Config, Kind, StageConfig
from tasks.configs.pretraining_data import NEMOTRON, RampStep, Shares, nemotron_batch_ramp
from tasks.configs.search import NotNegative, Positive


class TrainingConfig(StageConfig):
    """What every training stage has: AdamW, a schedule, a length limit, and which weights move."""

    kind: ClassVar[Kind] = "checkpoint"
    in_processes: ClassVar[bool] = True

    learning_rate: Positive = 1e-5
    """A number, or a range to search (tasks/configs/search.py)."""
    schedule: Literal["constant", "cosine", "wsd", "decay"] = "constant"
    """After warm-up: the full rate; half a cosine down; the full rate, then straight down; or exponentially down."""
    warmup_steps: int = Field(default=0, ge=0)
    decay_fraction: float = Field(default=0.2, gt=0, le=1)
    """Share of all steps over which "wsd" goes down."""
    final_fraction: float = Field(default=0.1, gt=0, le=1)
    """Last learning rate as a share of the full one, where the schedule goes down."""
    weight_decay: float = Field(default=0.0, ge=0)
    """On matrices only."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.95, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest global gradient norm."""
    optimizer_dtype: Literal["fp32", "bf16"] = "fp32"
    """Of AdamW's two moments; bf16 halves them, for adam_beta2 up to about 0.98."""
    spike_factor: float | None = Field(default=4.0, gt=1)
    """Losses above this many times the largest of 32 steps before, three in a row, stop the stage; null never does."""
    max_tokens: int = Field(default=2048, ge=2)
    """Longer examples are dropped and counted (pretraining cuts them into pieces); a pair counts its tokens once."""
    trainable: Literal["all", "lora", "dora"] = "all"
    """All weights, or low-rank additions to the linear layers ("dora": and each output's magnitude), which the written
    model holds merged."""
    lora_rank: int = Field(default=16, ge=1)
    lora_alpha: float = Field(default=16.0, gt=0)
    """The additions are scaled by lora_alpha / lora_rank."""


class AlignmentConfig(TrainingConfig):
    """What training of an existing model adds: batches of examples, and a part held out."""

    epochs: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)
    """Train for this many steps instead of `epochs`; data comes round again, freshly shuffled."""
    global_batch_size: int = Field(default=8, ge=1)
    """Examples of one optimizer step, however they are split into microbatches."""
    validation_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of the prompts kept from training; the stage's result is then the weights of their lowest loss, not the
    last. 0 keeps none."""
    evaluate_every: int = Field(default=0, ge=0)
    """Steps between validations; 0 validates after each epoch."""


class SFTConfig(AlignmentConfig):
    """Supervised fine-tuning on assistant turns only (paper, section 3.3.1)."""

    stage: ClassVar[str] = "sft"
    module: ClassVar[str] = "tasks.sft"
    version: ClassVar[int] = 3

    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the squared logsumexp of each trained token's logits, which keeps them from drifting."""


class ReferenceLogprobsConfig(StageConfig):
    """Log-probabilities of both responses of each pair under the checkpoint that a round starts from."""

    stage: ClassVar[str] = "reference-logprobs"
    module: ClassVar[str] = "tasks.reference_logprobs"
    version: ClassVar[int] = 3
    kind: ClassVar[Kind] = "dataset"
    in_processes: ClassVar[bool] = True

    shard_rows: int = Field(default=256, ge=1)


class PreferenceTuningConfig(AlignmentConfig):
    """DPO or reward-aware RPO from a checkpoint, anchored to that same checkpoint (paper, section 3.3.2)."""

    stage: ClassVar[str] = "preference-tuning"
    module: ClassVar[str] = "tasks.preference_tuning"
    version: ClassVar[int] = 3

    objective: Literal["dpo", "rpo"] = "rpo"
    beta: Positive = 0.1
    """A number, or a range to search."""
    eta: float | Literal["auto"] = 1.0
    """RPO: scales reward gaps; "auto" makes the median |eta * gap| equal `target_gap`."""
    target_gap: float = Field(default=2.0, gt=0)
    distance: Literal["backward_kl", "forward_kl", "squared"] = "backward_kl"
    """RPO: the paper's backward KL, or NeMo-Aligner's rpo_fwd_kl and rpo_sq."""
    sft_weight: NotNegative = 1e-5
    """Weight of minus the chosen response's summed log-probability, averaged over pairs: a number, or a range."""
    part: int = Field(default=0, ge=0)
    parts: int = Field(default=1, ge=1)
    """Prompts are split into `parts` disjoint parts, and this round takes number `part`; 1 shares all pairs."""

    @model_validator(mode="after")
    def _fits_together(self) -> "PreferenceTuningConfig":
        if self.part >= self.parts:
            raise ValueError(f"part={self.part} of parts={self.parts}: parts are numbered from 0")
        if self.eta != "auto" and self.eta <= 0:
            raise ValueError(f"eta={self.eta}: expected a value above 0, or 'auto'")
        return self


class RewardModelConfig(AlignmentConfig):
    """Five attributes from the hidden state at the end of a response, by regression (paper, section 3.1)."""

    stage: ClassVar[str] = "reward-model"
    module: ClassVar[str] = "tasks.reward_model"
    version: ClassVar[int] = 4

    mode: Literal["regression", "ridge"] = "ridge"
    """Train trunk and head by mean squared error, or only a head on the frozen trunk, in closed form."""
    validation_fraction: float = Field(default=0.05, gt=0, lt=1)
    """Share of the prompts kept for validation, at least one; regression keeps the best weights by them."""
    ridge_penalty: float | Literal["auto"] = "auto"
    """Ridge: penalty as a share of the features' mean squared length; "auto" takes the best of a grid by
    leave-one-prompt-out on the training rows."""

    @property
    def spread(self) -> bool:
        """A head on a frozen trunk is fitted in the job's own process."""
        return super().spread and self.mode == "regression"

    @model_validator(mode="after")
    def _penalises(self) -> "RewardModelConfig":
        if self.ridge_penalty != "auto" and self.ridge_penalty <= 0:
            raise ValueError(f"ridge_penalty={self.ridge_penalty}: expected a value above 0, or 'auto'")
        return self


class ModelShape(Config):
    """A decoder to pretrain; the vocabulary is the tokenizer's."""

    family: Family = "nemotron"
    hidden_size: int = Field(default=96, ge=1)
    intermediate_size: int = Field(default=384, ge=1)
    num_layers: int = Field(default=2, ge=1)
    num_heads: int = Field(default=4, ge=1)
    num_kv_heads: int = Field(default=2, ge=1)
    head_dim: int = Field(default=24, ge=2)
    rotary_fraction: float = Field(default=0.5, gt=0, le=1)
    rope_theta: float = Field(default=10000.0, gt=0)
    norm_eps: float = Field(default=1e-5, gt=0)
    tied_embeddings: bool = False
    max_positions: int = Field(default=4096, ge=2)
    init_std: float = Field(default=0.02, gt=0)
    vocab_multiple: int = Field(default=1, ge=1)
    """The embedding's rows are rounded up to a multiple of this."""

    @model_validator(mode="after")
    def _fits_together(self) -> "ModelShape":
        self.model_config_for(vocab_size=1)
        return self

    def model_config_for(self, vocab_size: int, **special_ids: Any) -> ModelConfig:
        """The decoder's config; raises ValueError where the numbers cannot fit."""
        rows = -(-vocab_size // self.vocab_multiple) * self.vocab_multiple
        return ModelConfig(vocab_size=rows, **self.model_dump(exclude={"vocab_multiple"}), **special_ids)


class PretrainConfig(TrainingConfig):
    """Next-token training on documents: a main phase from fresh weights, or a continued one from a base."""

    stage: ClassVar[str] = "pretrain"
    module: ClassVar[str] = "tasks.pretrain"
    version: ClassVar[int] = 3

    model: ModelShape = ModelShape()
    """Shape of a fresh model; not used where a base checkpoint is given."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the squared logsumexp of each token's logits, which keeps them from drifting."""
    steps: int = Field(default=1000, ge=1)
    tokens_per_step: int = Field(default=2048, ge=16)
    """Most tokens of one optimizer step, in whole pieces of documents."""
    batch_ramp: tuple[RampStep, ...] = ()
    """Larger steps later on, by tokens trained before; "nemotron" takes the paper's (section 2.4), as multiples of
    `tokens_per_step`."""
    mixture: Shares = {}
    """Share of each source of documents in the tokens, against the others; "nemotron" takes the paper's (section 2.1),
    none (null) takes each by its size."""
    second_mixture: Shares = {}
    """Shares from `switch_at` on (paper, section 2.4: continued pretraining has two distributions); null takes the
    preset's out, and its `switch_at`."""
    switch_at: float = Field(default=1.0, gt=0, le=1)
    """Share of the steps that read by `mixture`; below 1 the others read by `second_mixture`."""
    learning_rate_from: Literal["setting", "base"] = "setting"
    """Whether the full rate is `learning_rate`, or the one that the base's own pretraining ended with."""

    @model_validator(mode="before")
    @classmethod
    def _no_second_mixture(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("second_mixture", ...) is None:
            return {**values, "switch_at": 1.0}
        return values

    @field_validator("batch_ramp", mode="before")
    @classmethod
    def _named_ramp(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        if value != NEMOTRON:
            raise ValueError(f"expected {NEMOTRON!r}, the paper's ramp, or a list of from_tokens and tokens_per_step")
        return nemotron_batch_ramp(info.data.get("tokens_per_step", 0))

    @model_validator(mode="after")
    def _data_fits_together(self) -> "PretrainConfig":
        for name in ("mixture", "second_mixture"):
            wrong = {source: weight for source, weight in getattr(self, name).items() if not 0 < weight < float("inf")}
            if wrong:
                raise ValueError(f"{name} has the weights {wrong}: expected numbers above 0")
        if bool(self.second_mixture) != (self.switch_at < 1):
            raise ValueError(
                f"second_mixture={self.second_mixture} and switch_at={self.switch_at}: expected a second mixture with "
                "switch_at below 1, or neither"
            )
        if self.second_mixture and not 0 < self.switch_step < self.steps:
            raise ValueError(f"switch_at={self.switch_at} of {self.steps} steps leaves one of the mixtures no step")
        starts = [start for start, _ in self.batch_sizes]
        if starts != sorted(set(starts)):
            raise ValueError(f"batch_ramp begins at {starts[1:]} tokens: expected rising numbers")
        return self

    def check_sources(self, sources: Collection[str]) -> None:
        """Raises ValueError for a weight without its source, and for a source without a weight in either mixture."""
        for name in ("mixture", "second_mixture"):
            unknown = sorted(getattr(self, name).keys() - {*sources})
            if unknown:
                raise ValueError(
                    f"{name} has weights for {unknown}; the documents are of the sources {[*sources]}: take these "
                    "weights out (null), or add the documents"
                )
        unread = sorted({*sources} - self.mixture.keys() - self.second_mixture.keys()) if self.mixture else []
        if unread:
            raise ValueError(
                f"mixture has no weight for {unread}, of which there are documents: give them weights, or take the "
                "documents out (null)"
            )

    @property
    def switch_step(self) -> int:
        """The first step that reads by `second_mixture`."""
        return round(self.switch_at * self.steps)

    @property
    def batch_sizes(self) -> tuple[tuple[int, int], ...]:
        """Tokens of a step by the tokens trained before."""
        return ((0, self.tokens_per_step), *((step.from_tokens, step.tokens_per_step) for step in self.batch_ramp))

    @property
    def most_tokens(self) -> int:
        """Tokens of all steps, were each of them full."""
        trained, left = 0, self.steps
        ends = [start for start, _ in self.batch_sizes[1:]]
        for (_, size), end in zip(self.batch_sizes, [*ends, None], strict=True):
            steps = left if end is None else min(left, max(0, -(-(end - trained) // size)))
            trained, left = trained + steps * size, left - steps
        return trained
