"""How tokens look at each other: the decoder hands over rotated queries and keys, these return what was attended to.

B = rows, T = tokens of a row, H = query heads, K = key/value heads, d = dimensions of a head.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Attend(Protocol):
    """Attention of one layer. Grouped heads (K < H) and whatever is cached or masked are this callable's business."""

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        """Return attended_BTHd."""
        ...


def causal_attention(query_BTHd: Tensor, key_BSKd: Tensor, value_BSKd: Tensor) -> Tensor:
    """Each of the last T of a row's S tokens attends to itself and to what stands before it."""
    queries, keys = query_BTHd.shape[1], key_BSKd.shape[1]
    visible_TS = None
    if queries != keys:
        visible_TS = torch.ones(queries, keys, dtype=torch.bool, device=query_BTHd.device).tril(keys - queries)
    attended_BHTd = F.scaled_dot_product_attention(
        query_BTHd.transpose(1, 2),
        key_BSKd.transpose(1, 2),
        value_BSKd.transpose(1, 2),
        attn_mask=visible_TS,
        is_causal=visible_TS is None,
        enable_gqa=query_BTHd.shape[2] != key_BSKd.shape[2],
    )
    return attended_BHTd.transpose(1, 2)


class CausalAttention:
    """Every row of the batch is one document."""

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        return causal_attention(query_BTHd, key_BTKd, value_BTKd)


class PackedAttention:
    """One row holds several documents end to end; none sees another.

    Each document is attended to on its own, so its numbers do not depend on its neighbours at all. Neighbours of one
    length are attended to in one call, as rows of a batch.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        """`lengths`: tokens of each document, in the order of the row. Raises ValueError for an empty document."""
        if not lengths or min(lengths) < 1:
            raise ValueError(f"document lengths are {list(lengths)}; expected at least one, each at least 1 token")
        self.lengths = list(lengths)
        self.runs = [(length, len([*run])) for length, run in groupby(lengths)]

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        if query_BTHd.shape[:2] != (1, sum(self.lengths)):
            raise ValueError(
                f"a batch of {tuple(query_BTHd.shape[:2])} rows x tokens does not hold documents of {self.lengths} "
                f"tokens; expected (1, {sum(self.lengths)})"
            )
        sizes = [length * count for length, count in self.runs]
        parts = zip(*(tensor.squeeze(0).split(sizes) for tensor in (query_BTHd, key_BTKd, value_BTKd)), strict=True)
        attended = [
            causal_attention(*(tensor.unflatten(0, (count, length)) for tensor in part)).flatten(0, 1)
            for part, (length, count) in zip(parts, self.runs, strict=True)
        ]
        return torch.cat(attended)[None]
