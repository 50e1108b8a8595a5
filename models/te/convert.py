"""A decoder onto Transformer Engine's modules and back, without a change to any weight.

    model = to_te(model, "fp8", "current").cuda()     train it, save it (`save_model` writes the same folder)
    model = from_te(model)                            plain torch again

Convert before weights are sharded and before the optimizer is made: parameters are new objects, over the same memory.
The model may lie anywhere meanwhile, on the meta device too.
"""

import torch
from torch import nn

from models.decoder import Decoder, DecoderLayer, Trunk
from models.lora import LoRALinear
from models.planner import Precision
from models.te.arithmetic import Arithmetic, transformer_engine
from models.te.layers import TELayer, TETrunk
from models.te.shapes import Scaling, check_shape


def to_te(
    model: Decoder, precision: Precision = "bf16", scaling: Scaling = "current", *, recompute_mlp: bool = False
) -> Decoder:
    """Give the model's layers Transformer Engine's modules; returns the same model.

    `recompute_mlp` makes the MLPs' activations again in the backward pass, as their module does it itself.
    Raises ValueError where Transformer Engine is missing or cannot run this model as it is.
    """
    te = transformer_engine()
    check_shape(model.config, precision)
    _check_layers(model, precision)
    arithmetic = Arithmetic(precision, scaling)
    layers: list[TELayer] = []
    for number, plain in enumerate(model.layers):
        layer = TELayer(te, model.config, number, arithmetic, recompute_mlp)
        _move_weights(plain, layer)
        layers.append(layer)
    model.model = TETrunk(model.model, layers, te, arithmetic)
    return model.train(model.training)


def from_te(model: Decoder) -> Decoder:
    """Give the model's layers plain torch modules again; returns the same model."""
    trunk = _empty_trunk(model)
    for fused, plain in zip(model.layers, trunk.layers, strict=True):
        _move_weights(fused, plain)
    trunk.embed_tokens, trunk.norm = model.model.embed_tokens, model.model.norm
    model.model = trunk
    return model.train(model.training)


def _check_layers(model: Decoder, precision: Precision) -> None:
    if precision != "fp32" and not torch.cuda.is_available():
        raise ValueError("Transformer Engine's kernels run on NVIDIA GPUs, and torch sees none (set kernels=torch)")
    kinds = {type(layer).__name__ for layer in model.layers if not isinstance(layer, DecoderLayer)}
    if kinds:
        raise ValueError(f"the model's layers are {sorted(kinds)}; expected plain DecoderLayers")
    if any(isinstance(module, LoRALinear) for module in model.layers.modules()):
        raise ValueError("the model has LoRA additions, which kernels=te lacks (set trainable=all or kernels=torch)")


def _empty_trunk(model: Decoder) -> Trunk:
    with torch.device("meta"):
        return Trunk(model.config)


def _move_weights(source: nn.Module, target: nn.Module) -> None:
    trained = all(parameter.requires_grad for parameter in source.parameters())
    target.load_state_dict(source.state_dict(), assign=True)
    target.requires_grad_(trained)
