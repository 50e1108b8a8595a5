"""A decoder layer of Transformer Engine's modules, and the trunk that pads rows for them.

Each half of a layer starts with its norm, so norm and the product after it are one module, which hands the norm's
result over in FP8: LayerNormLinear makes queries, keys and values (Llama: gate and up), LayerNormMLP is Nemotron's
whole second half (LayerNorm1P is its LayerNorm with `zero_centered_gamma`, squared ReLU its "srelu"). Its "swiglu"
would keep gate and up as one matrix; they stay two here, so that every weight is one of the plain model's and can be
read, sharded and saved as there.

Attention stays the callable that the decoder passes into every layer, and rotation stays ours: sequences that share
what they begin with are trees, with positions of their own, which Transformer Engine's attention module does not know.
What it does know, documents end to end in a row, goes to its kernels in one call (`DocumentAttention`), trees unfolded.

The arithmetic is entered inside each layer, so that a layer which is recomputed in the backward pass computes as it
did before.

B = rows, T = tokens of a row, D = hidden size, H = query heads, K = key/value heads, d = dimensions of a head,
F = MLP width.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attention import Attend, CausalAttention, PackedAttention
from models.config import ModelConfig
from models.decoder import Rotation, Trunk, make_rotation, rotate
from models.forest_attention import ForestAttention, UnfoldedAttention
from models.planner import Precision
from models.te.arithmetic import Arithmetic
from models.te.names import give_plain_names
from models.te.shapes import padding_tokens

PLAIN: dict[str, Any] = {"bias": False, "device": "meta"}
"""Settings of every module: its weights are moved in, not drawn."""


class TELayer(nn.Module):
    """Stands in for a DecoderLayer; its state dict has the same names. Built on the meta device."""

    def __init__(self, te: Any, config: ModelConfig, layer: int, arithmetic: Arithmetic, recompute_mlp: bool) -> None:
        super().__init__()
        self.layer = layer
        self.heads = [config.num_heads, config.num_kv_heads, config.num_kv_heads]
        self.head_dim = config.head_dim
        self.arithmetic = arithmetic
        rows = {name: count * config.head_dim for name, count in zip("qkv", self.heads, strict=True)}
        self.qkv = te.LayerNormLinear(config.hidden_size, sum(rows.values()), parameters_split=rows, **_normed(config))
        self.o_proj = te.Linear(rows["q"], config.hidden_size, **PLAIN)
        if config.family == "llama":
            self.mlp = TESwiGLU(te, config, arithmetic, recompute_mlp)
        else:
            sizes = config.hidden_size, config.intermediate_size
            self.mlp = te.LayerNormMLP(*sizes, activation="srelu", checkpoint=recompute_mlp, **_normed(config))
        give_plain_names(self, config)

    def forward(self, hidden_BTD: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        with self.arithmetic.on(hidden_BTD.device.type):
            heads = self.qkv(hidden_BTD).unflatten(-1, (-1, self.head_dim))
            query_BTHd, key_BTKd, value_BTKd = heads.split(self.heads, dim=2)
            # Rotated in the rotation's precision, handed on in the products'.
            query_BTHd, key_BTKd = (rotate(part, rotation).to(part.dtype) for part in (query_BTHd, key_BTKd))
            attended_BTHd = attend(self.layer, query_BTHd, key_BTKd, value_BTKd)
            hidden_BTD = hidden_BTD + self.o_proj(attended_BTHd.flatten(2))
            return hidden_BTD + self.mlp(hidden_BTD)


class TESwiGLU(nn.Module):
    """RMSNorm and SwiGLU."""

    def __init__(self, te: Any, config: ModelConfig, arithmetic: Arithmetic, recompute: bool) -> None:
        super().__init__()
        hidden, width = config.hidden_size, config.intermediate_size
        self.gate_up = te.LayerNormLinear(
            hidden, 2 * width, parameters_split={"gate": width, "up": width}, **_normed(config)
        )
        self.down_proj = te.Linear(width, hidden, **PLAIN)
        self.arithmetic = arithmetic
        self.recompute = recompute

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._compute, hidden_BTD, use_reentrant=False, preserve_rng_state=False)
        return self._compute(hidden_BTD)

    def _compute(self, hidden_BTD: Tensor) -> Tensor:
        with self.arithmetic.on(hidden_BTD.device.type):
            gate_BTF, up_BTF = self.gate_up(hidden_BTD).chunk(2, dim=-1)
            return self.down_proj(F.silu(gate_BTF) * up_BTF)


def _normed(config: ModelConfig) -> dict[str, Any]:
    """Settings of a module that starts with the family's norm."""
    if config.family == "llama":
        return PLAIN | {"normalization": "RMSNorm", "eps": config.norm_eps}
    return PLAIN | {"normalization": "LayerNorm", "zero_centered_gamma": True, "eps": config.norm_eps}


class TETrunk(Trunk):
    """The trunk with TELayers in it; embedding and final norm are the ones that it is given.

    A row that is too short for FP8 gets hidden states of zero behind its last token: they raise no scale, nothing
    attends to them, and they are cut off again before the final norm.
    """

    def __init__(self, trunk: Trunk, layers: Sequence[TELayer], te: Any, arithmetic: Arithmetic) -> None:
        nn.Module.__init__(self)
        self.config = trunk.config
        self.embed_tokens = trunk.embed_tokens
        self.layers = nn.ModuleList(layers)
        self.norm = trunk.norm
        self.precision: Precision = arithmetic.precision
        self._attend_documents: Callable[..., Tensor] | None = None
        if self.precision != "fp32":  # which Transformer Engine's fused attention does not have
            kernel = te.DotProductAttention(
                self.config.num_heads,
                self.config.head_dim,
                num_gqa_groups=self.config.num_kv_heads,
                qkv_format="thd",
                attn_mask_type="padding_causal",
            )
            # It has no weights; as a submodule it would put an empty state of its own into the state dict.
            self._attend_documents = kernel.forward

    def forward(self, token_ids_BT: Tensor, positions_BT: Tensor | None, attend: Attend | None) -> Tensor:
        tokens = token_ids_BT.shape[1]
        padding = padding_tokens(tokens, self.precision)
        if positions_BT is None:
            positions_BT = torch.arange(tokens, device=token_ids_BT.device)[None]
        hidden_BTD = F.pad(self.embed_tokens(token_ids_BT), (0, 0, 0, padding))
        rotation = make_rotation(self.config, F.pad(positions_BT, (0, padding)), hidden_BTD.dtype)
        attend = attend or CausalAttention()
        if self._attend_documents is not None:
            attend = by_kernel(self._attend_documents, attend, token_ids_BT.device)
        if padding:
            attend = UnpaddedAttention(attend, padding)
        for layer in self.layers:
            hidden_BTD = layer(hidden_BTD, rotation, attend)
        return self.norm(hidden_BTD[:, :tokens])


def by_kernel(kernel: Callable[..., Tensor], attend: Attend, device: torch.device) -> Attend:
    """What attends to a row's documents or trees as `attend` does, by the kernel of a te.DotProductAttention."""
    if isinstance(attend, PackedAttention):
        return DocumentAttention(kernel, attend.lengths, device)
    if isinstance(attend, ForestAttention):
        return UnfoldedAttention(attend, DocumentAttention(kernel, attend.unfolded_lengths, device))
    return attend


class UnpaddedAttention:
    """Hands on rows without their last `padding` tokens, and gives those zeros."""

    def __init__(self, attend: Attend, padding: int) -> None:
        self.attend = attend
        self.padding = padding

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        attended_BTHd = self.attend(layer, *(part[:, : -self.padding] for part in (query_BTHd, key_BTKd, value_BTKd)))
        return F.pad(attended_BTHd, (0, 0, 0, 0, 0, self.padding))


class DocumentAttention:
    """What PackedAttention does, in one call of Transformer Engine's variable-length kernels."""

    def __init__(self, kernel: Callable[..., Tensor], lengths: Sequence[int], device: torch.device) -> None:
        """`kernel`: that of a te.DotProductAttention. `lengths`: tokens of each document, in the order of the row."""
        self.kernel = kernel
        self.tokens = sum(lengths)
        self.longest = max(lengths)
        self.bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        if query_BTHd.shape[:2] != (1, self.tokens):
            raise ValueError(
                f"a batch of {tuple(query_BTHd.shape[:2])} rows x tokens does not hold documents of {self.tokens} "
                f"tokens together; expected (1, {self.tokens})"
            )
        attended = self.kernel(
            *(part[0].contiguous() for part in (query_BTHd, key_BTKd, value_BTKd)),
            cu_seqlens_q=self.bounds,
            cu_seqlens_kv=self.bounds,
            max_seqlen_q=self.longest,
            max_seqlen_kv=self.longest,
        )
        return attended.view_as(query_BTHd)
