"""Low-rank adaptation: train a small addition to each linear layer of the trunk, merge it at the end.

    V = W + (alpha / rank) * up down             W frozen, down random, up zero at first
    y = V x                                      LoRA (Hu et al., 2021)
    y = magnitude * V x / |V|                    DoRA (Liu et al., 2024); |V|: lengths of rows, magnitude: |W| at first

|V| has no gradient, as in DoRA's section 4.3. On a CPU the gradient of W is a third of a step's arithmetic, and its
moments most of the optimizer's; neither exists here.
"""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.decoder import Decoder

Layer = TypeVar("Layer", bound=nn.Module)


class LoRALinear(nn.Module):
    def __init__(
        self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator, magnitudes: bool = False
    ) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        weight = base.weight
        down = torch.randn(rank, base.in_features, generator=generator) / math.sqrt(base.in_features)
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros(base.out_features, rank))
        self.magnitude = nn.Parameter(_lengths(weight)) if magnitudes else None

    def forward(self, hidden: Tensor) -> Tensor:
        result = self.base(hidden) + F.linear(F.linear(hidden, self.down), self.up * self.scale)
        if self.magnitude is None:
            return result
        return result * (self.magnitude / _lengths(self.base.weight + self.scale * (self.up @ self.down)))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The base layer with the addition in its weight."""
        self.base.weight += self.scale * (self.up @ self.down)
        if self.magnitude is not None:
            self.base.weight *= (self.magnitude / _lengths(self.base.weight))[:, None]
        return self.base


def _lengths(weight: Tensor) -> Tensor:
    """Of each row, without gradient."""
    return weight.detach().norm(dim=1)


def add_lora(model: Decoder, rank: int, alpha: float, seed: int, magnitudes: bool = False) -> None:
    """Freeze the model and give every linear layer of its trunk a trainable addition that is zero at first; with
    `magnitudes` it is DoRA's."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parent, name, layer in _children(model, nn.Linear):
        setattr(parent, name, LoRALinear(layer, rank, alpha, generator, magnitudes))


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
