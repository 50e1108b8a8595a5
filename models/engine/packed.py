"""A decoder's weights laid out for the processor's matrix kernels: the same numbers, in less time for small batches.

oneDNN's kernels over packed weights have one more virtue: the bits of a row do not depend on how many rows there are.
They are used on CPUs in fp32; elsewhere a decoder generates as it is.

M = rows, I = inputs of a layer, O = outputs.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from models.decoder import Attend, Decoder, Linear, Rotation, SelfAttention, SquaredReLUMLP, SwiGLUMLP, rotate

ROWS_HINT = 64
"""Rows that the layout is chosen for. A constant: another layout would be another order of sums."""


class PackedLinear(nn.Module):
    """x @ weight.T, with an activation applied or another product multiplied in on the way out."""

    def __init__(self, weight_OI: Tensor) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach(), ROWS_HINT)

    def forward(self, input_MI: Tensor, activation: str = "none", times_MO: Tensor | None = None) -> Tensor:
        """[..., O]; `activation` is one of oneDNN's ("relu", "swish"), `times_MO` multiplies what comes out."""
        if times_MO is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(input_MI, times_MO, self.weight, None, "mul")
        return torch.ops.mkldnn._linear_pointwise(input_MI, self.weight, None, activation, [], "")


class PackedSwiGLU(nn.Module):
    """The activation is part of the product: torch's own exp rounds differently at the edges of a thread's share."""

    def __init__(self, mlp: SwiGLUMLP) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = (
            PackedLinear(part.weight) for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        )

    def forward(self, hidden_MD: Tensor) -> Tensor:
        return self.down_proj(self.up_proj(hidden_MD, times_MO=self.gate_proj(hidden_MD, "swish")))


class PackedSquaredReLU(nn.Module):
    def __init__(self, mlp: SquaredReLUMLP) -> None:
        super().__init__()
        self.up_proj, self.down_proj = PackedLinear(mlp.up_proj.weight), PackedLinear(mlp.down_proj.weight)

    def forward(self, hidden_MD: Tensor) -> Tensor:
        return self.down_proj(self.up_proj(hidden_MD, "relu").square_())


class PackedSelfAttention(nn.Module):
    """Queries, keys and values come out of one product: narrow ones waste most of a small batch's time."""

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        weights = [part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
        self.head_dim = attention.head_dim
        self.heads = [len(weight) // self.head_dim for weight in weights]
        self.qkv_proj = PackedLinear(torch.cat([weight.detach() for weight in weights]))
        self.o_proj = PackedLinear(attention.o_proj.weight)

    def forward(self, hidden_BTD: Tensor, rotation: Rotation, attend: Attend, layer: int) -> Tensor:
        heads, kv_heads, _ = self.heads
        qkv_BTNd = self.qkv_proj(hidden_BTD).unflatten(-1, (-1, self.head_dim))
        turned_BTNd = rotate(qkv_BTNd[:, :, : heads + kv_heads], rotation)
        query_BTHd, key_BTKd = turned_BTNd.split([heads, kv_heads], dim=2)
        attended_BTHd = attend(layer, query_BTHd, key_BTKd, qkv_BTNd[:, :, heads + kv_heads :])
        return self.o_proj(attended_BTHd.flatten(2))


PACKED: dict[type[nn.Module], Any] = {
    SelfAttention: PackedSelfAttention,
    SwiGLUMLP: PackedSwiGLU,
    SquaredReLUMLP: PackedSquaredReLU,
}


def can_pack(model: Decoder) -> bool:
    """Whether the processor has such kernels for it; not for a part of a split model."""
    first: Any = model.layers[0]
    weight, whole = model.unembedding_VD, type(first.self_attn.o_proj) is Linear
    on_host = weight.device.type == "cpu" and weight.dtype == torch.float32
    return whole and on_host and torch.backends.mkldnn.is_available()


def pack(model: Decoder) -> Decoder:
    """The same decoder over packed copies of its matrices; norms and embedding are shared, not copied."""
    packed = _pack(model)
    if packed.lm_head is None:  # tied: the embedding stays as it is, for looking tokens up
        packed.lm_head = PackedLinear(model.unembedding_VD)
    return packed.eval()


def _pack(module: nn.Module) -> Any:
    if isinstance(module, nn.Linear):
        return PackedLinear(module.weight)
    if kind := PACKED.get(type(module)):
        return kind(module)
    twin = copy.copy(module)
    twin._modules = {name: _pack(child) for name, child in module.named_children()}
    return twin
