"""What some generators can do besides writing; a stage asks with isinstance and has another way for the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from models.config import ModelConfig
from models.engine import Generator
from models.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, str]]


@runtime_checkable
class Tokenized(Protocol):
    """Has its model's tokenizer here, so that prompts may be token ids."""

    tokenizer: Tokenizer


@runtime_checkable
class Scoring(Tokenized, Protocol):
    """Tells the log-probability of any continuation."""

    config: ModelConfig

    def logprobs(
        self, prompts_ids: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]: ...


@runtime_checkable
class WordScoring(Protocol):
    """Tells by other means how likely words are to come next."""

    def word_logprobs(
        self, conversations: Sequence[Messages], words: Sequence[str]
    ) -> list[tuple[float, ...] | None]: ...


@dataclass(frozen=True)
class Usage:
    """Tokens that a generator counted, since it was opened or between two moments."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    unmetered: int = 0
    """Answers of which the server told no usage; their tokens count as none."""
    cost: float = 0.0
    """In the currency of the configured prices."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.generated_tokens + other.generated_tokens,
            self.unmetered + other.unmetered,
            self.cost + other.cost,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return self + Usage(-other.prompt_tokens, -other.generated_tokens, -other.unmetered, -other.cost)

    def metrics(self) -> dict[str, float]:
        """For a manifest; without a cost where nothing has a price."""
        found = {"prompt_tokens": float(self.prompt_tokens), "generated_tokens": float(self.generated_tokens)}
        extra = {"cost": self.cost, "unmetered_answers": float(self.unmetered)}
        return found | {name: value for name, value in extra.items() if value}


@runtime_checkable
class Metered(Protocol):
    """Counts its tokens itself, which cost something."""

    @property
    def usage(self) -> Usage: ...


class Meter:
    """What a generator has used since the meter was made; nothing for one that does not count."""

    def __init__(self, engine: Generator) -> None:
        self.engine = engine
        self.counts = isinstance(engine, Metered)
        self._before = self._total()

    @property
    def used(self) -> Usage:
        return self._total() - self._before

    def metrics(self) -> dict[str, float]:
        """For the manifest; {} for a generator that does not count."""
        return self.used.metrics() if self.counts else {}

    def _total(self) -> Usage:
        return self.engine.usage if isinstance(self.engine, Metered) else Usage()


class NoLogprobs(Exception):
    """The generator tells no log-probabilities; the text says what was asked and what came."""
