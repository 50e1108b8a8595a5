"""Attention of a packed row in one kernel, for GPUs: torch's FlexAttention with a block mask of the row's trees.

A document is a tree without branches, a pair one with two (`models.packing`): tokens see what stands before them in
their own tree, but the rejected branch does not see the chosen one. Blocks that no token sees are never computed.

T = tokens of the row, H = query heads, K = key/value heads, d = dimensions of a head.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

PREFIX, CHOSEN, REJECTED = range(3)


class FlexAttention:
    def __init__(self, shapes: Sequence[tuple[int, int, int]], device: torch.device) -> None:
        """`shapes` as those of `PackedRow`."""
        parts = [(prefix, chosen - prefix, length - chosen) for prefix, chosen, length in shapes]
        trees = torch.arange(len(shapes)).repeat_interleave(torch.tensor([sum(part) for part in parts]))
        branches = torch.arange(3).repeat(len(shapes)).repeat_interleave(torch.tensor(parts).flatten())
        self.mask = create_block_mask(
            _rule(trees.to(device), branches.to(device)), None, None, len(trees), len(trees), device=device
        )

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        attended_BHTd = _kernel(query_BTHd.is_cuda)(
            query_BTHd.transpose(1, 2),
            key_BTKd.transpose(1, 2),
            value_BTKd.transpose(1, 2),
            block_mask=self.mask,
            enable_gqa=query_BTHd.shape[2] != key_BTKd.shape[2],
        )
        return attended_BHTd.transpose(1, 2)


def _rule(trees_T: Tensor, branches_T: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        across = (branches_T[query] == REJECTED) & (branches_T[key] == CHOSEN)
        return (trees_T[query] == trees_T[key]) & (key <= query) & ~across

    return sees


@lru_cache(maxsize=2)
def _kernel(compiled: bool) -> Any:
    """On a processor the plain, slow form: only tests go there."""
    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention
