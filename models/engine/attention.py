"""Attention of one engine step: rows that decode one token each, prompts that are read in parts, padding.

Every shape here depends on one row alone. A decoding row sees its slab's capacity. A prompt is cut into tiles at
multiples of TILE, and each tile is attended to whole, with empty places where a step reads only a part of it: so a
token's numbers do not depend on where reading began or stopped, and a prompt may be cut anywhere. Decoding is written
as plain batched products, because the bits of torch's fused attention change with the batch.

n = rows of a slab, T = tokens of a chunk, H = query heads, K = key/value heads, G = H / K, d = dimensions of a head,
L = capacity, b = n * K, S = keys up to a tile's end, R = G * TILE,
M = tokens of the step: decoding rows, then chunks, then padding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.engine.cache import Slab
from models.engine.prefixes import TILE, PromptCache


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
        self.kv_heads = slab.storage.shape[3]
        self.mask_b1L = mask_nL.masked_fill_(hidden_nL, -torch.inf).repeat_interleave(self.kv_heads, 0)[:, None]

    def attend(self, layer: int, query_nHd: Tensor, key_nKd: Tensor, value_nKd: Tensor) -> Tensor:
        """attended_nHd."""
        keys_nKLd, values_nKLd = self.slab.storage[:, layer, : self.size]
        keys_nKLd[self.rows_n, :, self.positions_n] = key_nKd
        values_nKLd[self.rows_n, :, self.positions_n] = value_nKd
        query_bGd = (query_nHd * query_nHd.shape[-1] ** -0.5).unflatten(1, (self.kv_heads, -1)).flatten(0, 1)
        scores_bGL = torch.bmm(query_bGd, keys_nKLd.flatten(0, 1).transpose(1, 2)).add_(self.mask_b1L)
        attended_bGd = torch.bmm(scores_bGL.softmax(dim=-1), values_nKLd.flatten(0, 1))
        return attended_bGd.view(query_nHd.shape)


class ChunkStep:
    """Tokens `start` to `start + size` of one prompt; `group` is G."""

    def __init__(self, cache: PromptCache, start: int, size: int, group: int) -> None:
        self.cache, self.start, self.size = cache, start, size
        end = start + size
        self.tiles = [
            (tile, max(start, tile), min(end, tile + TILE)) for tile in range(start // TILE * TILE, end, TILE)
        ]
        """First position of each tile, and the positions of it that are read now."""
        device, last = cache.storage.device, self.tiles[-1][0]
        rows_R1 = torch.arange(TILE, device=device).repeat(group)[:, None]
        hidden_RS = torch.arange(last + TILE, device=device) > rows_R1 + last
        # The last tile's mask; an earlier one's is what is left of it without its first columns.
        self.mask_RS = cache.storage.new_zeros(hidden_RS.shape).masked_fill_(hidden_RS, -torch.inf)

    def attend(self, layer: int, query_THd: Tensor, key_TKd: Tensor, value_TKd: Tensor) -> Tensor:
        """attended_THd."""
        self.cache.write(layer, self.start, key_TKd, value_TKd)
        attended_THd = torch.empty_like(query_THd)
        query_TKGd = query_THd.unflatten(1, (key_TKd.shape[1], -1))
        for tile, first, last in self.tiles:
            part = slice(first - self.start, last - self.start)
            places = slice(first - tile, last - tile)
            attended_THd[part] = self._attend_tile(layer, query_TKGd[part], tile, places)
        return attended_THd

    def _attend_tile(self, layer: int, query_TKGd: Tensor, tile: int, places: slice) -> Tensor:
        """Of the tokens at `places` of one tile, [T, H, d]. A key/value head's queries are rows of one product."""
        _, kv_heads, group, width = query_TKGd.shape
        if query_TKGd.shape[0] < TILE:
            whole_TKGd = query_TKGd.new_zeros((TILE, kv_heads, group, width))
            whole_TKGd[places] = query_TKGd
            query_TKGd = whole_TKGd
        keys_KSd, values_KSd = self.cache.read(layer, tile + TILE)
        mask_RS = self.mask_RS[:, self.tiles[-1][0] - tile :]
        query_1KRd = query_TKGd.permute(1, 2, 0, 3).reshape(1, kv_heads, group * TILE, width)
        attended_1KRd = F.scaled_dot_product_attention(query_1KRd, keys_KSd[None], values_KSd[None], mask_RS)
        attended_TKGd = attended_1KRd[0].unflatten(1, (group, TILE)).permute(2, 0, 1, 3)
        return attended_TKGd[places].flatten(1, 2)


class StepAttention:
    """The `attend` of one forward pass over all parts of a step, which lie one after another in a row of M tokens."""

    def __init__(self, parts: Sequence[SlabStep | ChunkStep]) -> None:
        self.parts = parts

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        if self.parts[0].size == query_BTHd.shape[1]:  # alone
            return self.parts[0].attend(layer, query_BTHd[0], key_BTKd[0], value_BTKd[0])[None]
        attended_BTHd = torch.empty_like(query_BTHd)
        start = 0
        for part in self.parts:
            end = start + part.size
            attended_BTHd[0, start:end] = part.attend(
                layer, query_BTHd[0, start:end], key_BTKd[0, start:end], value_BTKd[0, start:end]
            )
            start = end
        attended_BTHd[0, start:] = 0  # padding
        return attended_BTHd
