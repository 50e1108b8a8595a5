"""Attention of a packed row in one kernel, for GPUs: torch's FlexAttention with a block mask of the row's trees.

A token is seen by those that stand behind it in the row, up to where the last sequence ends that it belongs to
(`models.forest`). Blocks that no token sees are never computed.

T = tokens of the row, H = query heads, K = key/value heads, d = dimensions of a head.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from models.forest import Forest


class FlexAttention:
    def __init__(self, forest: Forest, device: torch.device) -> None:
        ends_T = forest.ends_T().to(device)
        self.mask = create_block_mask(_rule(ends_T), None, None, len(ends_T), len(ends_T), device=device)

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        attended_BHTd = _kernel(query_BTHd.is_cuda)(
            query_BTHd.transpose(1, 2),
            key_BTKd.transpose(1, 2),
            value_BTKd.transpose(1, 2),
            block_mask=self.mask,
            enable_gqa=query_BTHd.shape[2] != key_BTKd.shape[2],
        )
        return attended_BHTd.transpose(1, 2)


def _rule(ends_T: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < ends_T[key])

    return sees


@lru_cache(maxsize=2)
def _kernel(compiled: bool) -> Any:
    """On a processor the plain, slow form: only tests go there."""
    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention
