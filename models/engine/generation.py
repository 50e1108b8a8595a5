"""One call of `Engine.generate`: which rows run, what each step computes, and what comes of it.

Every step is one forward pass over a token of each running row, chunks of the prompts that are being read, and padding.
Nothing that is decided here changes any row's result: it decides when a row is computed, never with which shapes.

M = tokens of the step, D = hidden size, R = rows that decode, V = vocabulary.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.decoder import Decoder
from models.engine.attention import ChunkStep, SlabStep, StepAttention
from models.engine.cache import PromptCache, RowCache, Slot
from models.engine.rows import PromptState, Row
from models.engine.sampling import sample, uniforms

CHUNK = 512
"""Tokens of a prompt that are read in one step. A constant: the cut must depend on the prompt alone."""


@dataclass(frozen=True)
class Limits:
    """What bounds memory; changes the order of the work, never a result."""

    max_rows: int
    """Rows that run at the same time."""
    prefill_tokens: int
    """Prompt tokens read in one step, and at least one chunk."""
    cache_tokens: int
    """Tokens of keys and values that running rows may come to need together; one row always runs."""


class Generation:
    """Rows go in in the order given, and each is taken out as it finishes."""

    def __init__(self, model: Decoder, rows: Iterable[Row], limits: Limits) -> None:
        self.model = model
        self.weight = model.unembedding_VD
        self.limits = limits
        self.queue = deque(rows)
        self.reading: list[PromptState] = []
        self.running: dict[Slot, Row] = {}
        self.admitted_tokens = 0
        self.admitted_rows = 0
        self.generated = 0
        """Tokens sampled so far."""
        self.cache = RowCache(model.config, self.weight)

    def run(self) -> Iterator[list[Row]]:
        """The rows that finished, step by step."""
        while self.queue or self.admitted_rows:
            self._admit()
            yield self._step()

    def _admit(self) -> None:
        while self.queue and self._fits(self.queue[0]):
            row = self.queue.popleft()
            self.admitted_rows += 1
            self.admitted_tokens += row.reserved
            prompt = row.prompt
            if prompt.cache is None:
                prompt.cache = PromptCache(self.model.config, len(prompt.token_ids) - 1, self.weight)
                if not prompt.ready:
                    self.reading.append(prompt)
            prompt.waiting.append(row)
            self._start_waiting(prompt)

    def _fits(self, row: Row) -> bool:
        if not self.admitted_rows:
            return True
        tokens = self.admitted_tokens + row.reserved
        return self.admitted_rows < self.limits.max_rows and tokens <= self.limits.cache_tokens

    def _start_waiting(self, prompt: PromptState) -> None:
        """Give a prompt's admitted rows their copy of its cache, once it is read."""
        if prompt.cache is None or not prompt.ready:
            return
        for row in prompt.waiting:
            row.slot = self.cache.open(prompt.cache)
            self.running[row.slot] = row
        prompt.unstarted -= len(prompt.waiting)
        prompt.waiting.clear()
        if not prompt.unstarted:
            prompt.cache = None

    def _step(self) -> list[Row]:
        for slot in self.running:
            self.cache.make_room(slot)
        slots = [slot for slab in self.cache.slabs for slot in slab.slots]
        prompts, chunks = self._next_chunks()
        hidden_MD = self._forward(slots, chunks)
        finished = self._advance(slots, hidden_MD)
        for prompt, chunk in zip(prompts, chunks, strict=True):
            prompt.read += chunk.size
            if prompt.ready:
                self.reading.remove(prompt)
                self._start_waiting(prompt)
        return finished

    def _next_chunks(self) -> tuple[list[PromptState], list[ChunkStep]]:
        """What is read in this step: the next chunk of each prompt, as far as the step's budget goes."""
        chunks: list[ChunkStep] = []
        for prompt in self.reading:
            size = min(CHUNK, len(prompt.token_ids) - 1 - prompt.read)
            if prompt.cache is None or (chunks and size + sum(c.size for c in chunks) > self.limits.prefill_tokens):
                break
            chunks.append(ChunkStep(prompt.cache, prompt.read, size))
        return self.reading[: len(chunks)], chunks

    def _forward(self, slots: Sequence[Slot], chunks: Sequence[ChunkStep]) -> Tensor:
        """Final hidden states [M, D]: first one for each slot, in order."""
        token_ids = [self.running[slot].last_token for slot in slots]
        positions = [slot.length for slot in slots]
        for prompt, chunk in zip(self.reading, chunks, strict=False):
            token_ids += prompt.token_ids[chunk.start : chunk.start + chunk.size]
            positions += range(chunk.start, chunk.start + chunk.size)
        padding = [0] * (padded_size(len(token_ids)) - len(token_ids))
        attend = StepAttention([*(SlabStep(slab) for slab in self.cache.slabs), *chunks])
        device = self.weight.device
        token_ids_1M = torch.tensor([token_ids + padding], device=device)
        positions_1M = torch.tensor([positions + padding], device=device)
        return self.model.hidden(token_ids_1M, positions_1M, attend)[0]

    def _advance(self, slots: Sequence[Slot], hidden_MD: Tensor) -> list[Row]:
        """Sample the next token of each row; returns the rows that this finishes."""
        rows = [self.running[slot] for slot in slots]
        if not rows:
            return []
        logits_RV = self.model.unembed(hidden_MD[: padded_size(len(rows))])
        draws_R = uniforms(
            [row.params.seed for row in rows], [row.sample for row in rows], [len(row.token_ids) for row in rows]
        )
        tokens = sample(logits_RV, [row.params for row in rows], draws_R)
        finished = []
        for slot, row, token in zip(slots, rows, tokens, strict=True):
            slot.length += 1
            self.generated += 1
            if row.accept(token):
                self._release(slot)
                finished.append(row)
        return finished

    def _release(self, slot: Slot) -> None:
        row = self.running.pop(slot)
        self.cache.close(slot)
        self.admitted_rows -= 1
        self.admitted_tokens -= row.reserved


def padded_size(tokens: int) -> int:
    """Rows of a matrix product: at least 16 and a multiple of 8.

    With fewer, or with elementwise kernels that end in the middle of a vector, the last bits of a row's numbers come to
    depend on how many others there are.
    """
    return max(16, -(-tokens // 8) * 8)
