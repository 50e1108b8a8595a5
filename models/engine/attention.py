"""Attention of one engine step: rows that decode one token each, prompts that are read in chunks, padding.

Every shape here depends on one row alone: a decoding row sees its slab's capacity, a chunk its own prompt. Decoding is
written as plain batched products, because the bits of torch's fused attention change with the batch.

n = rows of a slab, T = tokens of a chunk, H = query heads, K = key/value heads, G = H / K, d = dimensions of a head,
L = capacity, M = tokens of the step: decoding rows, then chunks, then padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention import causal_attention
from models.engine.cache import PromptCache, Slab


class SlabStep:
    """One new token for each row of a slab."""

    def __init__(self, slab: Slab) -> None:
        device = slab.storage.device
        self.slab = slab
        self.size = len(slab.slots)
        self.rows_n = torch.arange(self.size, device=device)
        self.positions_n = torch.tensor([slot.length for slot in slab.slots], device=device)
        hidden_nL = torch.arange(slab.capacity, device=device) > self.positions_n[:, None]
        mask_nL = torch.zeros(hidden_nL.shape, dtype=slab.storage.dtype, device=device)
        self.mask_n11L = mask_nL.masked_fill_(hidden_nL, -torch.inf)[:, None, None]

    def attend(self, layer: int, query_nHd: Tensor, key_nKd: Tensor, value_nKd: Tensor) -> Tensor:
        """attended_nHd."""
        keys_nKLd, values_nKLd = self.slab.storage[:, layer, : self.size]
        keys_nKLd[self.rows_n, :, self.positions_n] = key_nKd
        values_nKLd[self.rows_n, :, self.positions_n] = value_nKd
        query_nKGd = query_nHd.unflatten(1, (key_nKd.shape[1], -1)) * query_nHd.shape[-1] ** -0.5
        scores_nKGL = torch.matmul(query_nKGd, keys_nKLd.transpose(-1, -2)).add_(self.mask_n11L)
        return torch.matmul(scores_nKGL.softmax(dim=-1), values_nKLd).flatten(1, 2)


@dataclass(frozen=True)
class ChunkStep:
    """Tokens `start` to `start + size` of one prompt."""

    cache: PromptCache
    start: int
    size: int

    def attend(self, layer: int, query_THd: Tensor, key_TKd: Tensor, value_TKd: Tensor) -> Tensor:
        """attended_THd."""
        self.cache.write(layer, self.start, key_TKd, value_TKd)
        if self.start == 0:
            return causal_attention(query_THd[None], key_TKd[None], value_TKd[None])[0]
        keys_KSd, values_KSd = self.cache.read(layer, self.start + self.size)
        visible_TS = torch.ones(self.size, keys_KSd.shape[1], dtype=torch.bool, device=keys_KSd.device).tril(self.start)
        attended_HTd = F.scaled_dot_product_attention(
            query_THd.transpose(0, 1)[None], keys_KSd[None], values_KSd[None], visible_TS, enable_gqa=True
        )[0]
        return attended_HTd.transpose(0, 1)


class StepAttention:
    """The `attend` of one forward pass over all parts of a step, which lie one after another in a row of M tokens."""

    def __init__(self, parts: Sequence[SlabStep | ChunkStep]) -> None:
        self.parts = parts

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        attended_BTHd = torch.zeros_like(query_BTHd)
        start = 0
        for part in self.parts:
            end = start + part.size
            attended_BTHd[0, start:end] = part.attend(
                layer, query_BTHd[0, start:end], key_BTKd[0, start:end], value_BTKd[0, start:end]
            )
            start = end
        return attended_BTHd
