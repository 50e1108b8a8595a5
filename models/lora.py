"""Low-rank adaptation (Hu et al., 2021): train a small addition to each linear layer of the trunk, merge it at the end.

    y = W x + (alpha / rank) * up (down x)        W frozen, down random, up zero at first

On a CPU the gradient of W is a third of a step's arithmetic, and its moments most of the optimizer's; neither exists
here.
"""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.decoder import Decoder

Layer = TypeVar("Layer", bound=nn.Module)


class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        weight = base.weight
        down = torch.randn(rank, base.in_features, generator=generator) / math.sqrt(base.in_features)
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros(base.out_features, rank))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.base(hidden) + F.linear(F.linear(hidden, self.down), self.up * self.scale)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The base layer with the addition in its weight."""
        self.base.weight += self.scale * (self.up @ self.down)
        return self.base


def add_lora(model: Decoder, rank: int, alpha: float, seed: int) -> None:
    """Freeze the model and give every linear layer of its trunk a trainable addition that is zero at first."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parent, name, layer in _children(model, nn.Linear):
        setattr(parent, name, LoRALinear(layer, rank, alpha, generator))


def merge_lora(model: Decoder) -> None:
    """Put every addition into its layer's weight and unfreeze the model; a model without additions stays as it is."""
    for parent, name, layer in _children(model, LoRALinear):
        setattr(parent, name, layer.merged())
    model.requires_grad_()


def _children(model: Decoder, kind: type[Layer]) -> list[tuple[nn.Module, str, Layer]]:
    """Parent, name and layer of every layer of this kind inside the trunk's layers."""
    return [
        (parent, name, child)
        for parent in model.layers.modules()
        for name, child in parent.named_children()
        if isinstance(child, kind)
    ]
