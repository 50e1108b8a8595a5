"""What goes into the engine and what comes out."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Prompt = Sequence[Mapping[str, Any]] | Sequence[int]
"""Messages with `role` and `content` (a conversation that ends in an assistant message is continued), or token ids."""

Progress = Callable[[int, int, int], None]
"""Called with rows done, rows in all, tokens generated so far; a row is one sample of one prompt."""

FinishReason = Literal["stop", "length", "error"]
MOST_LOGPROBS = 20


@dataclass(frozen=True)
class Constraint:
    """The shape that an answer must have. Raises ValueError for a kind that there is not."""

    kind: Literal["choice", "regex", "json_schema", "lark"]
    text: str
    """`choice`: a JSON list of the texts to pick one of; `json_schema`: as JSON; `regex` and `lark`: as they are."""

    def __post_init__(self) -> None:
        if self.kind not in ("choice", "regex", "json_schema", "lark"):
            raise ValueError(f"kind is {self.kind!r}; expected choice, regex, json_schema or lark")

    @classmethod
    def choices(cls, texts: Sequence[str]) -> "Constraint":
        return cls("choice", json.dumps(list(texts)))


@dataclass(frozen=True)
class SamplingParams:
    """How one prompt is answered. Raises ValueError for values out of range."""

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Sample among the fewest tokens that together have at least this probability."""
    top_k: int = 0
    """Sample among this many likeliest tokens; 0 for all. Applied before top_p."""
    max_tokens: int = 256
    stop: Sequence[str] = ()
    """Texts that end an answer; it is cut before them."""
    seed: int = 0
    """Fixes the row: the same prompt, settings and seed give the same answer, whatever else is generated with it."""
    n: int = 1
    """Samples of this prompt, each with randomness of its own."""
    min_p: float = 0.0
    """Sample among the tokens that have at least this share of the likeliest one's probability. Applied last."""
    repetition_penalty: float = 1.0
    """Above 1, tokens of the prompt and of the answer so far become less likely (CTRL, arXiv:1909.05858, eq. 4.1)."""
    stop_token_ids: Sequence[int] = ()
    """Tokens that end an answer, beside the model's own."""
    logprobs: int | None = None
    """Log-probabilities of the answer's tokens, each with this many of the likeliest tokens in its place; None: none.

    They are the model's own, before temperature, penalty and constraint.
    """
    constraint: Constraint | None = None
    """What the answer may look like."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        checks = (
            ("temperature", self.temperature == 0 or 1e-5 <= self.temperature <= 1e4),
            ("top_p", 0 < self.top_p <= 1),
            ("top_k", self.top_k >= 0),
            ("min_p", 0 <= self.min_p <= 1),
            ("repetition_penalty", 0.01 <= self.repetition_penalty <= 100),
            ("max_tokens", self.max_tokens >= 1),
            ("stop", all(self.stop)),
            ("n", self.n >= 1),
            ("logprobs", self.logprobs is None or 0 <= self.logprobs <= MOST_LOGPROBS),
        )
        for name, good in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {_EXPECTED[name]}")


def one_each(prompts: int, params: SamplingParams | Sequence[SamplingParams] | None) -> Sequence[SamplingParams]:
    """Settings for each prompt. Raises ValueError for another number of params than of prompts."""
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * prompts
    if len(params) != prompts:
        raise ValueError(f"{len(params)} sampling params for {prompts} prompts; expected one, or one per prompt")
    return params


_EXPECTED = {
    "temperature": "0 (greedy) or a number from 1e-5 to 10000",
    "top_p": "a number above 0, at most 1",
    "top_k": "0 (all tokens) or more",
    "max_tokens": "at least 1",
    "stop": "texts of at least one character",
    "n": "at least 1",
    "min_p": "a number from 0 to 1",
    "repetition_penalty": "a number from 0.01 to 100; 1 for none",
    "logprobs": f"None, or 0 to {MOST_LOGPROBS}",
}


@dataclass(frozen=True)
class TokenLogprob:
    """One token of an answer, and what else could have stood in its place."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens with their log-probabilities, likeliest first."""


@dataclass(frozen=True)
class Completion:
    """One answer."""

    text: str
    """Without special tokens, cut before a stop text."""
    token_ids: tuple[int, ...]
    """Without the stop token; with a stop text, the tokens that end before it."""
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] | None = None
    """One for each of `token_ids`, where they were asked for."""


@dataclass(frozen=True)
class Result:
    """The answers to one prompt."""

    outputs: tuple[Completion, ...]
    prompt_tokens: int
    error: str | None = None
    """Why the prompt could not be answered; its outputs are then empty and finish with "error"."""

    @classmethod
    def failed(cls, error: str, params: SamplingParams, prompt_tokens: int = 0) -> "Result":
        return cls((Completion("", (), "error"),) * params.n, prompt_tokens, error)

    @property
    def text(self) -> str:
        return self.outputs[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.outputs[0].token_ids

    @property
    def finish_reason(self) -> FinishReason:
        return self.outputs[0].finish_reason


class Generator(Protocol):
    """What writes answers: our engine, vLLM, or an endpoint."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        on_progress: Progress | None = None,
    ) -> list[Result]:
        """One result per prompt, in order; `params` are one for all or one per prompt."""
        ...
