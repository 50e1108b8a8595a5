"""A decoder whose weights are read one after another: a forward pass for models that no memory here could hold."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.decoder import Decoder

Read = Callable[[str], Tensor]
"""A whole weight by its name."""


def streamed(config: ModelConfig, read: Read) -> Decoder:
    """A decoder that reads a weight when a forward pass comes to it and lets go of it afterwards, in fp32.

    One weight is in memory at a time, and a tied embedding from its first use on. The order is always the same.
    """
    with torch.device("meta"):
        model = Decoder(config).eval().requires_grad_(False)
    for name, part in model.named_modules():
        if [*part.parameters(recurse=False)]:
            part.register_forward_pre_hook(partial(_fill, name, read))
            if not (config.tied_embeddings and part is model.model.embed_tokens):
                part.register_forward_hook(_empty)
    return model


def _fill(name: str, read: Read, part: nn.Module, inputs: Any) -> None:
    weights = {key: read(f"{name}.{key}").float() for key, _ in part.named_parameters(recurse=False)}
    part.load_state_dict(weights, assign=True)


def _empty(part: nn.Module, inputs: Any, outputs: Any) -> None:
    part.to("meta")
