"""Settings of what pretraining reads: a tokenizer, token shards, and the paper's blend and batch sizes."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from tasks.configs.base import Config, Kind, StageConfig

CHATML_MARKERS = ("<|im_start|>", "<|im_end|>")
NEMOTRON = "nemotron"
"""Stands for the paper's values in a mixture or a batch ramp."""


class TokenizeConfig(StageConfig):
    """Documents as token ids, each closed by the end-of-text token."""

    stage: ClassVar[str] = "tokenize"
    module: ClassVar[str] = "tasks.tokenize"
    version: ClassVar[int] = 2

    shard_rows: int = Field(default=10_000, ge=1)
    """Documents of one shard, which are held in memory together."""
    source: str = ""
    """What mixtures call the documents; "" leaves each the source that its row names."""


class TrainTokenizerConfig(StageConfig):
    """A SentencePiece BPE vocabulary that loses nothing: rare characters in bytes, all spaces kept (paper, 2.1)."""

    stage: ClassVar[str] = "train-tokenizer"
    module: ClassVar[str] = "tasks.train_tokenizer"
    kind: ClassVar[Kind] = "checkpoint"

    vocabulary: int = Field(default=32_000, ge=300)
    """Tokens in all: special tokens, 256 bytes, characters and merged pieces (the paper's has 256,000)."""
    split_digits: bool = True
    """Every digit is a token of its own."""
    character_coverage: float = Field(default=0.9995, gt=0, le=1)
    """Share of the text whose characters get tokens of their own; the rest is spelled in bytes."""
    max_documents: int = Field(default=1_000_000, ge=1)
    """Documents to learn from, which are held in memory; of more, an even sample is drawn."""
    end_of_text: str = Field(default="<|endoftext|>", min_length=1)
    special_tokens: tuple[str, ...] = CHATML_MARKERS
    """Further tokens that text is never split inside of."""
    chat_template: Literal["chatml", "none"] = "chatml"
    """How conversations are written for the models that are trained with it."""

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainTokenizerConfig":
        special = [self.end_of_text, *self.special_tokens]
        if len(set(special)) < len(special) or "" in special:
            raise ValueError(f"end_of_text and special_tokens are {special}; expected different texts, none empty")
        missing = [marker for marker in CHATML_MARKERS if marker not in special]
        if self.chat_template == "chatml" and missing:
            raise ValueError(f"chat_template is chatml and special_tokens lack {missing}: add them, or set it to none")
        return self


class RampStep(Config):
    """A larger batch from some number of trained tokens on."""

    from_tokens: int = Field(ge=1)
    """Tokens trained before."""
    tokens_per_step: int = Field(ge=16)


def nemotron_blend() -> dict[str, float]:
    """The paper's mixture of pretraining data by source (section 2.1): text in English, in 53 other languages, code."""
    return {"english": 0.70, "multilingual": 0.15, "code": 0.15}


def nemotron_batch_ramp(tokens_per_step: int) -> tuple[RampStep, ...]:
    """The paper's larger steps (section 2.4): 1536 and 2304 sequences, from 200 and 400 billion tokens on, after 768 at
    first; here as multiples of the first steps' `tokens_per_step`."""
    later = ((200_000_000_000, 2), (400_000_000_000, 3))
    return tuple(RampStep(from_tokens=start, tokens_per_step=times * tokens_per_step) for start, times in later)


def _shares(value: Any) -> Any:
    if value is None:
        return {}
    if value == NEMOTRON:
        return nemotron_blend()
    if not isinstance(value, Mapping):
        raise ValueError(f"expected {NEMOTRON!r}, the paper's blend, sources with their shares, or null for none")
    return {source: share for source, share in value.items() if share is not None}


Shares = Annotated[dict[str, float], BeforeValidator(_shares)]
"""Sources with their shares of the tokens; `NEMOTRON` is the paper's blend, null takes a source of a preset out, and
null for all of it gives none."""
