"""The shape of a decoder, and its translation to and from a Hugging Face `config.json`; imports no torch.

Two families: Nemotron (paper, section 2: LayerNorm1P, squared ReLU, partial rotation) and Llama (RMSNorm, SwiGLU).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["nemotron", "llama"]

ARCHITECTURES: dict[Family, str] = {"nemotron": "NemotronForCausalLM", "llama": "LlamaForCausalLM"}
_ACTIVATION: dict[Family, str] = {"nemotron": "relu2", "llama": "silu"}
_NORM_EPS_KEY: dict[Family, str] = {"nemotron": "norm_eps", "llama": "rms_norm_eps"}

# What transformers assumes for a key that config.json leaves out.
_DEFAULTS: dict[Family, dict[str, Any]] = {
    "nemotron": {
        "norm_eps": 1e-5, "initializer_range": 0.0134, "max_position_embeddings": 4096, "partial_rotary_factor": 0.5,
        "bos_token_id": 2, "eos_token_id": 3,
    },
    "llama": {
        "rms_norm_eps": 1e-6, "initializer_range": 0.02, "max_position_embeddings": 2048, "partial_rotary_factor": 1.0,
        "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched for long contexts."""

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    """llama3 only: wavelengths longer than original_max_positions / low_freq_factor are divided by `factor`."""
    high_freq_factor: float = 4.0
    """llama3 only: wavelengths shorter than original_max_positions / high_freq_factor stay as they are."""
    original_max_positions: int = 8192
    """llama3 only: the context that the model was first trained on, in tokens."""

    @classmethod
    def from_hf(cls, rope: Mapping[str, Any], max_positions: int) -> "RopeScaling | None":
        """None for plain rotation. Raises ValueError for a kind that the decoder does not have."""
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind == "default":
            return None
        if kind == "linear":
            return cls("linear", float(rope["factor"]))
        if kind == "llama3":
            original = int(rope.get("original_max_position_embeddings") or max_positions)
            low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
            return cls("llama3", float(rope["factor"]), low, high, original)
        raise ValueError(f"rope scaling {kind!r} is not supported; expected 'default', 'linear' or 'llama3'")

    def to_hf(self) -> dict[str, Any]:
        if self.kind == "linear":
            return {"rope_type": "linear", "factor": self.factor}
        return {
            "rope_type": "llama3",
            "factor": self.factor,
            "low_freq_factor": self.low_freq_factor,
            "high_freq_factor": self.high_freq_factor,
            "original_max_position_embeddings": self.original_max_positions,
        }


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes a decoder's shape and arithmetic. Raises ValueError where the numbers cannot fit."""

    family: Family
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    """A field of its own: num_heads * head_dim need not equal hidden_size (Minitron-8B: 6144 and 4096)."""
    rotary_fraction: float = 1.0
    """Share of each head's dimensions, from the first on, that are rotated."""
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    tied_embeddings: bool = False
    max_positions: int = 4096
    init_std: float = 0.02
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None

    def __post_init__(self) -> None:
        if self.family not in ARCHITECTURES:
            raise ValueError(f"family is {self.family!r}; expected one of {sorted(ARCHITECTURES)}")
        sizes = (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
        )
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        if self.family == "llama" and self.rotary_fraction != 1.0:
            raise ValueError(f"rotary_fraction is {self.rotary_fraction}; the Llama family rotates all of a head, 1.0")
        if self.rotary_dim % 2 or not 0 < self.rotary_dim <= self.head_dim:
            raise ValueError(
                f"rotary_fraction {self.rotary_fraction} of head_dim {self.head_dim} rotates {self.rotary_dim} "
                "dimensions; expected an even number, at least 2 and at most head_dim"
            )
        outside = [i for i in (self.bos_id, self.pad_id, *self.eos_ids) if i is not None and not self.has_token(i)]
        if outside:
            raise ValueError(f"special token ids {outside} lie outside the vocabulary of {self.vocab_size}")

    def has_token(self, token_id: int) -> bool:
        return 0 <= token_id < self.vocab_size

    @property
    def rotary_dim(self) -> int:
        """Rotated dimensions of each head."""
        return int(self.head_dim * self.rotary_fraction)

    @property
    def num_parameters(self) -> int:
        """All parameters; tied embeddings count once."""
        return sum(math.prod(shape) for shape in parameter_shapes(self).values())

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any]) -> "ModelConfig":
        """Read a `config.json`, of transformers 4 or 5.

        Raises ValueError for another architecture, or for one of these two with biases or another activation.
        """
        family = _family_of(hf)
        values = _DEFAULTS[family] | {key: value for key, value in hf.items() if value is not None}
        special = _DEFAULTS[family] | dict(hf)  # here an explicit null means "none", not "the default"
        _check_variant(family, values)
        rope = dict(values.get("rope_scaling") or {}) | dict(values.get("rope_parameters") or {})
        eos = special["eos_token_id"]
        num_heads, max_positions = values["num_attention_heads"], values["max_position_embeddings"]
        return cls(
            family=family,
            vocab_size=values["vocab_size"],
            hidden_size=values["hidden_size"],
            intermediate_size=values["intermediate_size"],
            num_layers=values["num_hidden_layers"],
            num_heads=num_heads,
            num_kv_heads=values.get("num_key_value_heads", num_heads),
            head_dim=values.get("head_dim", values["hidden_size"] // num_heads),
            rotary_fraction=float(rope.get("partial_rotary_factor", values["partial_rotary_factor"])),
            rope_theta=float(rope.get("rope_theta", values.get("rope_theta", 10000.0))),
            rope_scaling=RopeScaling.from_hf(rope, max_positions),
            norm_eps=float(values[_NORM_EPS_KEY[family]]),
            tied_embeddings=bool(values.get("tie_word_embeddings", False)),
            max_positions=max_positions,
            init_std=float(values["initializer_range"]),
            bos_id=special["bos_token_id"],
            eos_ids=() if eos is None else tuple(eos) if isinstance(eos, list | tuple) else (eos,),
            pad_id=special.get("pad_token_id"),
        )

    def to_hf(self) -> dict[str, Any]:
        """A `config.json` that transformers 4 and 5 and vLLM read; rotary settings are written in both spellings."""
        scaling = self.rope_scaling.to_hf() if self.rope_scaling else None
        rope = {"rope_type": "default", "rope_theta": self.rope_theta} | (scaling or {})
        if self.family == "nemotron":
            rope["partial_rotary_factor"] = self.rotary_fraction
        partial = {"partial_rotary_factor": self.rotary_fraction} if self.family == "nemotron" else {}
        return {
            "architectures": [ARCHITECTURES[self.family]],
            "model_type": self.family,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": _ACTIVATION[self.family],
            "max_position_embeddings": self.max_positions,
            "initializer_range": self.init_std,
            _NORM_EPS_KEY[self.family]: self.norm_eps,
            "tie_word_embeddings": self.tied_embeddings,
            "rope_theta": self.rope_theta,
            "rope_scaling": scaling,
            "rope_parameters": rope,
            **partial,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "bos_token_id": self.bos_id,
            "eos_token_id": self.eos_ids[0] if len(self.eos_ids) == 1 else list(self.eos_ids) or None,
            "pad_token_id": self.pad_id,
            "use_cache": True,
        }


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every parameter's name (Hugging Face's) and shape, in the decoder's order."""
    hidden, width = config.hidden_size, config.intermediate_size
    q_width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    gated = {"mlp.gate_proj.weight": (width, hidden)} if config.family == "llama" else {}
    matrices = {
        "self_attn.q_proj.weight": (q_width, hidden),
        "self_attn.k_proj.weight": (kv_width, hidden),
        "self_attn.v_proj.weight": (kv_width, hidden),
        "self_attn.o_proj.weight": (hidden, q_width),
        **gated,
        "mlp.up_proj.weight": (width, hidden),
        "mlp.down_proj.weight": (hidden, width),
    }
    vectors = ("weight", "bias") if config.family == "nemotron" else ("weight",)
    norms = {f"{name}.{v}": (hidden,) for name in ("input_layernorm", "post_attention_layernorm") for v in vectors}
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for layer in range(config.num_layers):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in (matrices | norms).items()}
    shapes |= {f"model.norm.{vector}": (hidden,) for vector in vectors}
    return shapes if config.tied_embeddings else shapes | {"lm_head.weight": (config.vocab_size, hidden)}


def _family_of(hf: Mapping[str, Any]) -> Family:
    found = hf.get("model_type"), hf.get("architectures")
    for family, architecture in ARCHITECTURES.items():
        if found[0] == family and (not found[1] or architecture in found[1]):
            return family
    raise ValueError(
        f"unknown architecture: model_type {found[0]!r}, architectures {found[1]!r}; "
        f"expected {sorted(ARCHITECTURES.values())} (convert the model, or take one of these families)"
    )


def _check_variant(family: Family, hf: Mapping[str, Any]) -> None:
    activation = hf.get("hidden_act", _ACTIVATION[family])
    if activation != _ACTIVATION[family]:
        raise ValueError(f"hidden_act is {activation!r}; the {family} decoder has {_ACTIVATION[family]!r}")
    biased = [name for name in ("attention_bias", "mlp_bias") if hf.get(name)]
    if biased:
        raise ValueError(f"{', '.join(biased)} is true; the {family} decoder's linear layers have no bias")
