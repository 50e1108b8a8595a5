"""A prompt being read, its samples being generated, and when one of them is finished."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.engine.cache import PromptCache, Slot, capacity_for
from models.engine.interface import Completion, FinishReason, SamplingParams
from models.tokenizer import Tokenizer

MARGIN = 8
"""Tokens decoded beyond the longest stop text, for characters and spaces that reach over the edge of the window."""


@dataclass(frozen=True)
class Ending:
    """What ends any row of one model."""

    tokenizer: Tokenizer
    stop_ids: frozenset[int]
    hidden_ids: frozenset[int]
    """Special tokens, which leave no text."""
    max_positions: int
    """The model's context, in tokens."""


@dataclass(eq=False)
class PromptState:
    """All but the last token of a prompt are read into its cache; the last one is each sample's first step."""

    token_ids: Sequence[int]
    unstarted: int
    """Samples that have not taken their copy of the cache yet."""
    cache: PromptCache | None = None
    read: int = 0
    """Tokens in the cache."""
    waiting: list["Row"] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return self.read == len(self.token_ids) - 1


@dataclass(eq=False)
class Row:
    """One sample of one prompt."""

    prompt: PromptState
    params: SamplingParams
    ending: Ending
    sample: int
    token_ids: list[int] = field(default_factory=list)
    """What was generated, without the stop token."""
    slot: Slot = field(default_factory=Slot)
    completion: Completion | None = None

    @property
    def last_token(self) -> int:
        return self.token_ids[-1] if self.token_ids else self.prompt.token_ids[-1]

    @property
    def reserved(self) -> int:
        """Tokens of cache that the row can come to need."""
        return capacity_for(min(len(self.prompt.token_ids) + self.params.max_tokens, self.ending.max_positions))

    def accept(self, token: int) -> bool:
        """Take the next token; True when that finishes the row."""
        if token in self.ending.stop_ids:
            self._finish("stop")
        else:
            self.token_ids.append(token)
            seen = len(self.prompt.token_ids) + len(self.token_ids)
            full = len(self.token_ids) >= self.params.max_tokens or seen >= self.ending.max_positions
            if not self._cut_at_stop_text() and full:
                self._finish("length")
        return self.completion is not None

    def _finish(self, reason: FinishReason) -> None:
        self.completion = Completion(self._decode(self.token_ids), tuple(self.token_ids), reason)

    def _decode(self, token_ids: Sequence[int]) -> str:
        return self.ending.tokenizer.decode(token_ids)

    def _cut_at_stop_text(self) -> bool:
        if not self.params.stop or not self._stop_text_in_tail():
            return False
        text = self._decode(self.token_ids)
        cut = min((text.index(stop) for stop in self.params.stop if stop in text), default=None)
        if cut is None:
            return False
        kept = len(self.token_ids)
        while not text[:cut].startswith(self._decode(self.token_ids[:kept])):
            kept -= 1
        self.completion = Completion(text[:cut], tuple(self.token_ids[:kept]), "stop")
        return True

    def _stop_text_in_tail(self) -> bool:
        """Look at the end of the text only: a step must not decode the whole answer so far."""
        window = MARGIN + max(len(stop.encode()) for stop in self.params.stop)
        visible = [token for token in self.token_ids if token not in self.ending.hidden_ids]
        tail = self._decode(visible[-window:])
        return any(stop in tail for stop in self.params.stop)
