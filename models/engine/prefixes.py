"""Keys and values of prompts: of those that are being read, and of those kept because others may begin alike.

A prompt that begins like one that is here copies what the two share and reads only the rest. Copying is exact and costs
about a thousandth of reading, so there is no table of shared blocks: each prompt's numbers lie in one piece.

K = key/value heads, d = dimensions of a head, T = tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from models.config import ModelConfig

TILE = 32
"""Space for a prompt is rounded up to this many tokens, the rows of one attention call (models/engine/attention)."""
LEAST_SHARED = 8
"""Fewer tokens in common are not worth the step that a prompt waits for another."""


def tiled(length: int) -> int:
    return -(-length // TILE) * TILE


class PromptCache:
    """Keys and values of one prompt, [2, layers, K, T, d]; zeros where nothing is written yet."""

    def __init__(self, config: ModelConfig, length: int, like: Tensor) -> None:
        """`like`: a weight whose device and precision are taken."""
        self.storage = like.new_zeros((2, config.num_layers, config.num_kv_heads, tiled(length), config.head_dim))

    def write(self, layer: int, start: int, key_TKd: Tensor, value_TKd: Tensor) -> None:
        end = start + key_TKd.shape[0]
        self.storage[0, layer, :, start:end] = key_TKd.transpose(0, 1)
        self.storage[1, layer, :, start:end] = value_TKd.transpose(0, 1)

    def read(self, layer: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first `end` tokens, each [K, end, d]."""
        return self.storage[0, layer, :, :end], self.storage[1, layer, :, :end]

    def copy_from(self, other: "PromptCache", length: int) -> None:
        self.storage[..., :length, :] = other.storage[..., :length, :]


@dataclass(eq=False)
class Prefix:
    """A prompt in the cache, as far as it is read."""

    token_ids: np.ndarray
    cache: PromptCache
    read: int = 0
    """Tokens in the cache."""
    source: "Prefix | None" = None
    """Another prompt that begins alike; `shared` tokens are copied from it once it has read them."""
    shared: int = 0
    waiting: list[Any] = field(default_factory=list)
    """Whoever wants it read."""
    copiers: int = 0
    """Prompts that will copy from it."""

    @property
    def space(self) -> int:
        """Tokens of cache that it holds."""
        return tiled(len(self.token_ids))

    @property
    def in_use(self) -> bool:
        return bool(self.waiting or self.copiers or self.read < len(self.token_ids))

    def take_shared(self) -> bool:
        """Copy what is shared; False while that is not read yet."""
        if self.source is not None:
            if self.source.read < self.shared:
                return False
            self.cache.copy_from(self.source.cache, self.shared)
            self.read = self.shared
            self.let_go()
        return True

    def let_go(self) -> None:
        """Want nothing of the other prompt any more."""
        if self.source is not None:
            self.source.copiers -= 1
            self.source = None


class PrefixPool:
    """Prompts by their first tokens; the ones that nobody uses make room for others, the longest unused first."""

    def __init__(self, share: bool = True) -> None:
        self.share = share
        self.tokens = 0
        """Space that all of them hold."""
        self._groups: dict[bytes, dict[Prefix, None]] = {}
        self._unused_first: dict[Prefix, None] = {}

    def __iter__(self) -> Iterator[Prefix]:
        return iter(self._unused_first)

    def find(self, token_ids: np.ndarray, most: int) -> tuple[Prefix | None, int]:
        """The prompt that has most tokens in common with these, and how many, at most `most`."""
        best, shared = None, 0
        for prefix in self._groups.get(_key(token_ids), ()) if self.share and most >= LEAST_SHARED else ():
            if (common := min(_common(prefix.token_ids, token_ids), most)) > shared:
                best, shared = prefix, common
        if best is not None:
            self._unused_first[best] = self._unused_first.pop(best)
        return best, shared

    def add(self, prefix: Prefix) -> None:
        self._groups.setdefault(_key(prefix.token_ids), {})[prefix] = None
        self._unused_first[prefix] = None
        self.tokens += prefix.space

    def remove(self, prefix: Prefix) -> None:
        group = self._groups[_key(prefix.token_ids)]
        del group[prefix], self._unused_first[prefix]
        if not group:
            del self._groups[_key(prefix.token_ids)]
        self.tokens -= prefix.space

    def make_room(self, tokens: int) -> None:
        """Give back at least this much space, or all that nobody uses."""
        for prefix in [prefix for prefix in self if not prefix.in_use] if tokens > 0 else ():
            self.remove(prefix)
            tokens -= prefix.space
            if tokens <= 0:
                return


def as_array(token_ids: Sequence[int]) -> np.ndarray:
    return np.asarray(token_ids, dtype=np.int64)


def _key(token_ids: np.ndarray) -> bytes:
    return token_ids[:LEAST_SHARED].tobytes()


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """How many tokens two prompts have in common at their start."""
    length = min(len(one), len(other))
    differing = np.flatnonzero(one[:length] != other[:length])
    return int(differing[0]) if len(differing) else length
