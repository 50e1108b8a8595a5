"""Which work runs, what each step computes, and what comes of it: continuous batching with shared prefixes.

Every step is one forward pass over a token of each running row, parts of the prompts that are being read, and padding.
Nothing that is decided here changes any row's result: it decides when a token is computed, never with which shapes.

M = tokens of the step, D = hidden size, R = rows that decode, V = vocabulary, T = tokens of a part.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor

from models.decoder import Decoder
from models.engine.attention import ChunkStep, SlabStep, StepAttention
from models.engine.cache import SLAB_TOKENS, STEP, RowCache, Slot
from models.engine.packed import PackedLinear
from models.engine.prefixes import Prefix, PrefixPool, PromptCache, tiled
from models.engine.rows import Reading, Row
from models.engine.sampling import next_tokens

Work = Row | Reading

KEPT_SHARE = 0.25
"""Of the cache, for prompts that nobody uses at the moment."""


@dataclass(frozen=True)
class Limits:
    """What bounds memory; changes the order of the work, never a result."""

    max_rows: int
    """Rows that run, and texts that are read, at the same time."""
    prefill_tokens: int
    """Prompt tokens read in one step."""
    cache_tokens: int
    """Tokens of keys and values that may be kept; one row always runs."""
    share_prefixes: bool = True


class Scheduler:
    """Work is taken up in the order given, as memory allows, and handed back as it finishes."""

    def __init__(self, model: Decoder, limits: Limits) -> None:
        self.model = model
        self.limits = limits
        self.like = model.model.embed_tokens.weight
        self.queue: deque[Work] = deque()
        self.admitted: dict[Work, None] = {}
        """What has a place in the cache, the oldest first."""
        self.reading: list[Prefix] = []
        self.running: dict[Slot, Row] = {}
        # A slab is there whole as soon as one row is in it.
        self.rows = RowCache(model.config, self.like, max(STEP, min(SLAB_TOKENS, limits.cache_tokens // 16)))
        self.prefixes = PrefixPool(limits.share_prefixes)
        self.generated = self.read = self.preempted = 0
        """Tokens sampled and tokens read so far, and rows that had to give way."""
        self._group = model.config.num_heads // model.config.num_kv_heads
        self._row_multiple, self._least_rows = _padding(model)

    @property
    def idle(self) -> bool:
        return not self.queue and not self.admitted

    def submit(self, work: Iterable[Work]) -> None:
        self.queue.extend(work)

    def cancel(self, work: Work) -> None:
        """Forget about it, wherever it is."""
        if work in self.admitted:
            self._withdraw(work)
        elif work in self.queue:
            self.queue.remove(work)

    def step(self) -> list[Work]:
        """Compute one step; returns what it finished."""
        self._admit()
        self._make_room_for_growth()
        for slot in self.running:
            self.rows.make_room(slot)
        slots = [slot for slab in self.rows.slabs for slot in slab.slots]
        prefixes, chunks = self._next_chunks()
        if not slots and not chunks:
            return []
        hidden_MD = self._forward(slots, prefixes, chunks)
        finished = self._advance(slots, hidden_MD)
        finished += self._take_in(prefixes, chunks, hidden_MD[len(slots) :])
        self.prefixes.make_room(self.prefixes.tokens - int(KEPT_SHARE * self.limits.cache_tokens))
        return finished

    # Memory

    @property
    def used_tokens(self) -> int:
        """Tokens of cache that prompts hold and that admitted rows have or are about to take."""
        return self.prefixes.tokens + sum(work.space for work in self.admitted)

    def _admit(self) -> None:
        while self.queue and (len(self.admitted) < self.limits.max_rows):
            work = self.queue[0]
            source, shared = self.prefixes.find(work.wanted_ids, work.most_shared)
            # A row may start from another's prompt as it is; a text must be read for itself.
            is_there = source is not None and isinstance(work, Row) and shared == len(work.wanted_ids)
            if source is not None:
                source.copiers += 1  # not to be given back while room is made
            fits = self._make_room(work.space + (0 if is_there else tiled(len(work.wanted_ids))))
            if source is not None:
                source.copiers -= 1
            if not fits:
                return
            self.queue.popleft()
            self.admitted[work] = None
            self._prepare(work, source, shared, is_there)

    def _prepare(self, work: Work, source: Prefix | None, shared: int, is_there: bool) -> None:
        """Let it wait for its prompt; a row of one token has nothing to wait for."""
        if isinstance(work, Row) and not len(work.wanted_ids):
            self._start(work, None)
            return
        prefix = source if is_there else None
        if prefix is None:
            cache = PromptCache(self.model.config, len(work.wanted_ids), self.like)
            prefix = Prefix(work.wanted_ids, cache, source=source, shared=shared)
            if source is not None:
                source.copiers += 1
            self.prefixes.add(prefix)
            self.reading.append(prefix)
        work.prefix = prefix
        prefix.waiting.append(work)
        self._serve(prefix)

    def _make_room(self, tokens: int) -> bool:
        """Have so much space free, at the cost of prompts that nobody uses; True also where nothing else runs."""
        self.prefixes.make_room(self.used_tokens + tokens - self.limits.cache_tokens)
        return not self.admitted or self.used_tokens + tokens <= self.limits.cache_tokens

    def _make_room_for_growth(self) -> None:
        """Let rows see one token more; where that does not fit, the youngest give way, but for the last.

        Texts that are read never do: parts of them are handed on already.
        """
        while not self._make_room(self.rows.growth()):
            rows = [work for work in self.admitted if isinstance(work, Row)]
            if len(rows) < 2:
                return
            self._withdraw(rows[-1])
            rows[-1].restart()
            self.preempted += 1
            self.queue.appendleft(rows[-1])

    def _withdraw(self, work: Work) -> None:
        """Take back its place, and stop reading for it alone."""
        del self.admitted[work]
        if isinstance(work, Row) and work.slot is not None:
            del self.running[work.slot]
            self.rows.close(work.slot)
            work.slot = None
        if (prefix := work.prefix) is not None:
            work.prefix = None
            prefix.waiting.remove(work)
            if prefix in self.reading and not prefix.waiting and not prefix.copiers:
                prefix.let_go()
                self.reading.remove(prefix)
                self.prefixes.remove(prefix)

    # Prompts

    def _next_chunks(self) -> tuple[list[Prefix], list[ChunkStep]]:
        """What is read in this step, as far as the step's budget goes."""
        budget = self.limits.prefill_tokens
        prefixes, chunks = [], []
        for prefix in self.reading:
            if budget and prefix.take_shared():
                size = min(budget, len(prefix.token_ids) - prefix.read)
                prefixes.append(prefix)
                chunks.append(ChunkStep(prefix.cache, prefix.read, size, self._group))
                budget -= size
        return prefixes, chunks

    def _take_in(self, prefixes: Sequence[Prefix], chunks: Sequence[ChunkStep], hidden_MD: Tensor) -> list[Work]:
        """Hand on what was read; returns the texts that this finishes."""
        finished: list[Work] = []
        start = 0
        for prefix, chunk in zip(prefixes, chunks, strict=True):
            hidden_TD = hidden_MD[start : start + chunk.size]
            start += chunk.size
            self.read += chunk.size
            prefix.read += chunk.size
            if prefix.read == len(prefix.token_ids):
                self.reading.remove(prefix)
            for work in [work for work in prefix.waiting if isinstance(work, Reading)]:
                if prefix.read > work.wanted:
                    work.take(hidden_TD[max(0, work.wanted - chunk.start) :])
                if prefix.read == len(prefix.token_ids):
                    self._withdraw(work)
                    finished.append(work)
            self._serve(prefix)
        return finished

    def _serve(self, prefix: Prefix) -> None:
        """Start the rows whose prompt is read."""
        for work in [work for work in prefix.waiting if isinstance(work, Row)]:
            if prefix.read >= len(work.wanted_ids):
                prefix.waiting.remove(work)
                work.prefix = None
                self._start(work, prefix.cache.storage)

    # Rows

    def _start(self, row: Row, source_LKTd: Tensor | None) -> None:
        row.slot = self.rows.open(source_LKTd, len(row.wanted_ids))
        self.running[row.slot] = row

    def _forward(self, slots: Sequence[Slot], prefixes: Sequence[Prefix], chunks: Sequence[ChunkStep]) -> Tensor:
        """Final hidden states [M, D]: one for each slot, then the chunks', then padding."""
        token_ids = [self.running[slot].last_token for slot in slots]
        positions = [slot.length for slot in slots]
        for prefix, chunk in zip(prefixes, chunks, strict=True):
            token_ids += prefix.token_ids[chunk.start : chunk.start + chunk.size].tolist()
            positions += range(chunk.start, chunk.start + chunk.size)
        padding = [0] * (self._padded(len(token_ids)) - len(token_ids))
        attend = StepAttention([*(SlabStep(slab) for slab in self.rows.slabs), *chunks])
        token_ids_1M = torch.tensor([token_ids + padding], device=self.like.device)
        positions_1M = torch.tensor([positions + padding], device=self.like.device)
        return self.model.hidden(token_ids_1M, positions_1M, attend)[0]

    def _advance(self, slots: Sequence[Slot], hidden_MD: Tensor) -> list[Work]:
        """Sample the next token of each row; returns the rows that this finishes."""
        rows = [self.running[slot] for slot in slots]
        finished: list[Work] = []
        if not rows:
            return finished
        tokens = next_tokens(self.unembed(hidden_MD[: len(rows)]), rows)
        for slot, row, token in zip(slots, rows, tokens, strict=True):
            slot.length += 1
            self.generated += 1
            if row.accept(token):
                self._withdraw(row)
                finished.append(row)
        return finished

    def unembed(self, hidden_RD: Tensor) -> Tensor:
        """Logits [R, V], each row's as with any other rows."""
        rows = len(hidden_RD)
        padded_RD = torch.nn.functional.pad(hidden_RD, (0, 0, 0, self._padded(rows) - rows))
        return self.model.unembed(padded_RD)[:rows]

    def _padded(self, rows: int) -> int:
        return max(self._least_rows, -(-rows // self._row_multiple) * self._row_multiple)


def _padding(model: Decoder) -> tuple[int, int]:
    """Rows of a step must be a multiple of the first number, and at least the second.

    torch's elementwise kernels take 16 numbers at a time and round differently in what is left over. Products over
    plain weights have other bits with few rows; those over packed ones do not.
    """
    if isinstance(model.lm_head, PackedLinear):
        return 16 // gcd(16, model.config.rotary_dim), 1
    return 8, 16
