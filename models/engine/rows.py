"""What the engine works on: samples of prompts, being generated until they are finished, and texts, being read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from models.engine.cache import Slot, capacity_for
from models.engine.constraints import Matcher
from models.engine.interface import Completion, FinishReason, SamplingParams, TokenLogprob
from models.engine.prefixes import Prefix, as_array
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


def longest(prompt: int, params: SamplingParams, ending: Ending) -> int:
    """Tokens that a prompt of so many and its answer can come to together."""
    return min(prompt + params.max_tokens, ending.max_positions)


@dataclass(eq=False)
class Reading:
    """Tokens that are read for the hidden states of the last of them."""

    wanted_ids: np.ndarray
    """All of them."""
    wanted: int
    """From this position on."""
    take: Callable[[Tensor], None]
    """Called with hidden states [T, D] of consecutive positions, part after part."""
    prefix: Prefix | None = None

    @property
    def space(self) -> int:
        """Tokens of cache beside its prompt's."""
        return 0

    @property
    def most_shared(self) -> int:
        """Tokens that need not be read where another prompt begins alike."""
        return self.wanted


@dataclass(eq=False)
class Row:
    """One sample of one prompt. All but the prompt's last token are read; that one is the sample's first step."""

    prompt_ids: Sequence[int]
    params: SamplingParams
    ending: Ending
    sample: int
    token_ids: list[int] = field(default_factory=list)
    """What was generated, without the stop token."""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    slot: Slot | None = None
    """Its place in the cache, while it runs."""
    prefix: Prefix | None = None
    """The prompt it waits for."""
    was_preempted: bool = False
    replay: Sequence[int] = ()
    """What was generated before it had to give way."""
    completion: Completion | None = None

    def __post_init__(self) -> None:
        self.wanted_ids = as_array(self.prompt_ids[:-1])
        """What must be in the cache before the row starts."""
        self.matcher = self._matcher()
        self.stop_ids = self.ending.stop_ids | frozenset(self.params.stop_token_ids)

    def _matcher(self) -> Matcher | None:
        constraint = self.params.constraint
        return None if constraint is None else Matcher(constraint, self.ending.tokenizer, self.ending.stop_ids)

    @property
    def last_token(self) -> int:
        return self.token_ids[-1] if self.token_ids else self.prompt_ids[-1]

    @property
    def most_shared(self) -> int:
        return len(self.prompt_ids) - 1

    @property
    def reserved(self) -> int:
        """Tokens of cache that the row can come to need, its prompt's among them while it waits."""
        return capacity_for(self.longest)

    @property
    def longest(self) -> int:
        return longest(len(self.prompt_ids), self.params, self.ending)

    @property
    def space(self) -> int:
        """Tokens of cache that are put aside for it: what it has; all that it can need if it had to give way once."""
        if self.was_preempted:
            return self.reserved
        return capacity_for(len(self.prompt_ids)) if self.slot is None else self.slot.slab.capacity

    def restart(self) -> None:
        """Give way to others, and go the same way again later."""
        self.replay = max(self.replay, tuple(self.token_ids), key=len)
        self.token_ids.clear()
        self.logprobs.clear()
        self.slot, self.prefix, self.was_preempted, self.matcher = None, None, True, self._matcher()

    def again(self, token: int) -> int:
        """The next token: what it was before the row had to give way, else the one that was sampled.

        On a processor they are the same; elsewhere the last bits might choose another, and what is told stays told.
        """
        step = len(self.token_ids)
        return self.replay[step] if step < len(self.replay) else token

    def accept(self, token: int) -> bool:
        """Take the next token; True when that finishes the row."""
        if token in self.stop_ids:
            self._finish("stop", self._decode(self.token_ids), len(self.token_ids))
        else:
            self.token_ids.append(token)
            whole = self.matcher is not None and self.matcher.accept(token)
            if not self._cut_at_stop_text() and (whole or len(self.prompt_ids) + len(self.token_ids) >= self.longest):
                self._finish("stop" if whole else "length", self._decode(self.token_ids), len(self.token_ids))
        return self.completion is not None

    def _finish(self, reason: FinishReason, text: str, kept: int) -> None:
        logprobs = None if self.params.logprobs is None else tuple(self.logprobs[:kept])
        self.completion = Completion(text, tuple(self.token_ids[:kept]), reason, logprobs)

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
        self._finish("stop", text[:cut], kept)
        return True

    def _stop_text_in_tail(self) -> bool:
        """Look at the end of the text only: a step must not decode the whole answer so far."""
        window = MARGIN + max(len(stop.encode()) for stop in self.params.stop)
        visible = [token for token in self.token_ids if token not in self.ending.hidden_ids]
        tail = self._decode(visible[-window:])
        return any(stop in tail for stop in self.params.stop)
