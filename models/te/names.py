"""Parameters of Transformer Engine's modules under Hugging Face's names: one for one, so nothing is cut or joined.

A model's state dict has the plain model's names in its order, `load_state_dict` takes them, and with `keep_vars` the
state dict is the parameters themselves: what a checkpoint is read into and training's state is saved by.
"""

from typing import Any

import torch
from torch import nn

from models.config import ModelConfig

EXTRA_STATE = "_extra_state"
"""Empty for every scaling that we use; Transformer Engine misses the key all the same."""


def plain_names(config: ModelConfig) -> dict[str, str]:
    """Of each parameter in a TELayer, the one in a DecoderLayer, in that one's order."""
    attention = {f"qkv.{part}_weight": f"self_attn.{part}_proj.weight" for part in "qkv"}
    attention["o_proj.weight"] = "self_attn.o_proj.weight"
    if config.family == "llama":
        mlp = {f"mlp.gate_up.{part}_weight": f"mlp.{part}_proj.weight" for part in ("gate", "up")}
        mlp["mlp.down_proj.weight"] = "mlp.down_proj.weight"
        vectors, second = ("weight",), "mlp.gate_up"
    else:
        mlp = {"mlp.fc1_weight": "mlp.up_proj.weight", "mlp.fc2_weight": "mlp.down_proj.weight"}
        vectors, second = ("weight", "bias"), "mlp"
    norms = {"qkv": "input_layernorm", second: "post_attention_layernorm"}
    return attention | mlp | {f"{half}.layer_norm_{v}": f"{norm}.{v}" for half, norm in norms.items() for v in vectors}


def give_plain_names(layer: nn.Module, config: ModelConfig) -> None:
    """Let the layer's state dict be the plain layer's, and let it load one."""
    names = plain_names(config)

    def to_plain(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
        for name, plain in names.items():
            state[prefix + plain] = state.pop(prefix + name)
        for key in [key for key in state if key.startswith(prefix) and key.endswith(EXTRA_STATE)]:
            del state[key]

    def from_plain(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        for name, plain in names.items():
            if prefix + plain in state:  # else torch reports it as missing
                state[prefix + name] = state.pop(prefix + plain)
        for path, child in module.named_modules():
            if type(child).set_extra_state is not nn.Module.set_extra_state:
                state[f"{prefix}{path}.{EXTRA_STATE}"] = torch.empty(0, dtype=torch.uint8)

    layer.register_state_dict_post_hook(to_plain)
    layer.register_load_state_dict_pre_hook(from_plain)
