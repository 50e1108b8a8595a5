"""A causal decoder for the Nemotron and Llama families, on one device, in whatever precision its weights have.

Nemotron (paper, section 2) has LayerNorm1P, squared ReLU and rotates part of each head; Llama has RMSNorm, SwiGLU and
rotates all of it. Parameters carry Hugging Face's names, and rotation pairs dimension i with i + rotary_dim / 2 as
there, so weights move both ways unchanged. Attention is passed in (`attend`): packed training, scoring and the
KV-cache engine run this same code. Sharding, precision and recomputation are applied from outside.

B = rows, T = tokens of a row, D = hidden size, H = query heads, K = key/value heads, d = dimensions of a head,
R = rotated dimensions of a head, F = MLP width, V = vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import Attend, CausalAttention, PackedAttention
from models.config import ModelConfig, RopeScaling
from models.fused import norms_here, rms_norm, rotate_all, swiglu

__all__ = ["Attend", "CausalAttention", "Decoder", "PackedAttention", "init_model"]

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of each position's angles, both of shape [B, T, 1, R]."""


class Linear(nn.Linear):
    """No bias. Zero until weights are drawn or read: torch's own initialisation imports its compiler on meta (3 s)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)


class Embedding(nn.Embedding):
    """Zero until weights are drawn or read, as Linear."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)


class LayerNorm1P(nn.Module):
    """norm(x) * (1 + weight) + bias: the weight holds gamma - 1, so that weight decay pulls gamma towards 1."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        return F.layer_norm(hidden_BTD, self.weight.shape, self.weight + 1.0, self.bias, self.eps)


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        if norms_here(hidden_BTD):
            return rms_norm(hidden_BTD, self.weight, self.eps)
        return F.rms_norm(hidden_BTD, self.weight.shape, self.weight, self.eps)


class SquaredReLUMLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        return self.down_proj(F.relu(self.up_proj(hidden_BTD)).square())


class SwiGLUMLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        return self.down_proj(swiglu(self.gate_proj(hidden_BTD), self.up_proj(hidden_BTD)))


class SelfAttention(nn.Module):
    """Grouped-query attention; H * d need not equal D."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        q_width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = Linear(config.hidden_size, q_width)
        self.k_proj = Linear(config.hidden_size, kv_width)
        self.v_proj = Linear(config.hidden_size, kv_width)
        self.o_proj = Linear(q_width, config.hidden_size)

    def forward(self, hidden_BTD: Tensor, rotation: Rotation, attend: Attend, layer: int) -> Tensor:
        # The -1 lets a tensor-parallel rank hold only its own heads.
        query_BTHd = self.q_proj(hidden_BTD).unflatten(-1, (-1, self.head_dim))
        key_BTKd = self.k_proj(hidden_BTD).unflatten(-1, (-1, self.head_dim))
        value_BTKd = self.v_proj(hidden_BTD).unflatten(-1, (-1, self.head_dim))
        attended_BTHd = attend(layer, rotate(query_BTHd, rotation), rotate(key_BTKd, rotation), value_BTKd)
        return self.o_proj(attended_BTHd.flatten(2))


class DecoderLayer(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.self_attn = SelfAttention(config)
        self.mlp = SquaredReLUMLP(config) if config.family == "nemotron" else SwiGLUMLP(config)
        self.input_layernorm = make_norm(config)
        self.post_attention_layernorm = make_norm(config)

    def forward(self, hidden_BTD: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        hidden_BTD = hidden_BTD + self.self_attn(self.input_layernorm(hidden_BTD), rotation, attend, self.layer)
        return hidden_BTD + self.mlp(self.post_attention_layernorm(hidden_BTD))


class Trunk(nn.Module):
    """Embedding, layers and final norm: what Hugging Face calls `model`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_layers))
        self.norm = make_norm(config)

    def forward(self, token_ids_BT: Tensor, positions_BT: Tensor | None, attend: Attend | None) -> Tensor:
        hidden_BTD = self.embed_tokens(token_ids_BT)
        if positions_BT is None:
            positions_BT = torch.arange(token_ids_BT.shape[1], device=token_ids_BT.device)[None]
        rotation = make_rotation(self.config, positions_BT, hidden_BTD.dtype)
        attend = attend or CausalAttention()
        for layer in self.layers:
            hidden_BTD = layer(hidden_BTD, rotation, attend)
        return self.norm(hidden_BTD)


class Decoder(nn.Module):
    """A language model; can be built on the meta device."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head: nn.Linear | None = None
        if not config.tied_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)

    @property
    def layers(self) -> nn.ModuleList:
        return self.model.layers

    @property
    def unembedding_VD(self) -> Tensor:
        """The matrix that turns hidden states into logits: the embedding itself where the two are tied."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def hidden(self, token_ids_BT: Tensor, positions_BT: Tensor | None = None, attend: Attend | None = None) -> Tensor:
        """Hidden states after the final norm, [B, T, D]. Without positions every row starts at 0."""
        return self.model(token_ids_BT, positions_BT, attend)

    def unembed(self, hidden_BTD: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]."""
        if self.lm_head is None:
            return F.linear(hidden_BTD, self.unembedding_VD)
        return self.lm_head(hidden_BTD)

    def forward(self, token_ids_BT: Tensor, positions_BT: Tensor | None = None, attend: Attend | None = None) -> Tensor:
        """Logits [B, T, V]. Positions and `attend` default to plain causal rows that start at 0."""
        return self.unembed(self.hidden(token_ids_BT, positions_BT, attend))


def make_norm(config: ModelConfig) -> nn.Module:
    norm = LayerNorm1P if config.family == "nemotron" else RMSNorm
    return norm(config.hidden_size, config.norm_eps)


def rotary_frequencies(config: ModelConfig, device: torch.device) -> Tensor:
    """Radians per position of each rotated pair, [R / 2], in fp32.

    Worked out at each forward: a buffer would be left empty by a model that was built on the meta device.
    """
    exponents = torch.arange(0, config.rotary_dim, 2, dtype=torch.float32, device=device) / config.rotary_dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    return frequencies if config.rope_scaling is None else scale_frequencies(frequencies, config.rope_scaling)


def scale_frequencies(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Stretch frequencies [R / 2] for a longer context ("llama3": low ones fully, high ones not, a ramp between)."""
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    turns = scaling.original_max_positions * frequencies / (2 * math.pi)
    ramp = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = ramp.clamp(0.0, 1.0)
    return frequencies * kept + frequencies / scaling.factor * (1 - kept)


def make_rotation(config: ModelConfig, positions_BT: Tensor, dtype: torch.dtype) -> Rotation:
    angles_BTr = positions_BT[..., None].float() * rotary_frequencies(config, positions_BT.device)
    angles_BT1R = torch.cat((angles_BTr, angles_BTr), dim=-1).unsqueeze(2)
    return angles_BT1R.cos().to(dtype), angles_BT1R.sin().to(dtype)


def rotate(heads_BTHd: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the first R dimensions of each head and leave the rest."""
    cosine, sine = rotation
    turning, passing = heads_BTHd.tensor_split([cosine.shape[-1]], dim=-1)
    turned = rotate_all(turning, cosine, sine)
    return turned if passing.shape[-1] == 0 else torch.cat((turned, passing), dim=-1)


def init_model(config: ModelConfig, seed: int) -> Decoder:
    """A fresh fp32 model on the CPU: matrices from N(0, init_std), every norm the identity; same seed, same weights."""
    with torch.device("meta"):
        model = Decoder(config)
    model = model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    identity = 0.0 if config.family == "nemotron" else 1.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.normal_(0.0, config.init_std, generator=generator)
            else:
                parameter.fill_(identity if name.endswith("weight") else 0.0)
    return model
