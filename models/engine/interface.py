"""What goes into the engine and what comes out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

Prompt = Sequence[Mapping[str, Any]] | Sequence[int]
"""Messages with `role` and `content` (a conversation that ends in an assistant message is continued), or token ids."""

Progress = Callable[[int, int, int], None]
"""Called with rows done, rows in all, tokens generated so far; a row is one sample of one prompt."""

FinishReason = Literal["stop", "length", "error"]


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        checks = (
            ("temperature", isfinite(self.temperature) and (self.temperature == 0 or self.temperature >= 1e-5)),
            ("top_p", 0 < self.top_p <= 1),
            ("top_k", self.top_k >= 0),
            ("max_tokens", self.max_tokens >= 1),
            ("stop", all(self.stop)),
            ("n", self.n >= 1),
        )
        for name, good in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {_EXPECTED[name]}")


_EXPECTED = {
    "temperature": "0 (greedy) or a number of at least 1e-5",
    "top_p": "a number above 0, at most 1",
    "top_k": "0 (all tokens) or more",
    "max_tokens": "at least 1",
    "stop": "texts of at least one character",
    "n": "at least 1",
}


@dataclass(frozen=True)
class Completion:
    """One answer."""

    text: str
    """Without special tokens, cut before a stop text."""
    token_ids: tuple[int, ...]
    """Without the stop token; with a stop text, the tokens that end before it."""
    finish_reason: FinishReason


@dataclass(frozen=True)
class Result:
    """The answers to one prompt."""

    outputs: tuple[Completion, ...]
    prompt_tokens: int
    error: str | None = None
    """Why the prompt could not be answered; its outputs are then empty and finish with "error"."""

    @property
    def text(self) -> str:
        return self.outputs[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.outputs[0].token_ids

    @property
    def finish_reason(self) -> FinishReason:
        return self.outputs[0].finish_reason
