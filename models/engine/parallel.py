"""A decoder split over the processes of one node: each holds its share of every layer's heads and of the MLP's width.

What attention and MLP add to the hidden state is summed over the processes, twice a layer (Megatron-LM,
arXiv:1909.08053, section 3); embedding and unembedding are held by each. All processes are given the same work and come
to the same decisions, for each sees the same sums. How these are associated is the collective's business, so the last
bits of a row may depend on its batch.
"""

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from models.config import ModelConfig
from models.decoder import Decoder, Linear

SPLIT_OUTPUTS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
SPLIT_INPUTS = ("o_proj", "down_proj")


class SummedLinear(Linear):
    """Holds some of the inputs' columns; the outputs are summed over the processes."""

    def forward(self, input: Tensor) -> Tensor:
        partial = F.linear(input, self.weight)
        dist.all_reduce(partial)
        return partial


def split_config(config: ModelConfig, parts: int) -> ModelConfig:
    """The shape of one part. Raises ValueError where heads or the MLP's width do not divide."""
    for name in ("num_heads", "num_kv_heads", "intermediate_size"):
        if getattr(config, name) % parts:
            raise ValueError(f"a model with {name} {getattr(config, name)} cannot be split into {parts} equal parts")
    return replace(
        config,
        num_heads=config.num_heads // parts,
        num_kv_heads=config.num_kv_heads // parts,
        intermediate_size=config.intermediate_size // parts,
    )


def split(model: Decoder, rank: int, parts: int) -> Decoder:
    """Part `rank` of a decoder, for a process of the default process group. Raises ValueError as `split_config`."""
    config = split_config(model.config, parts)
    with torch.device("meta"):
        part = Decoder(config)
        layers: Any = part.layers
        for layer in layers:
            layer.self_attn.o_proj = SummedLinear(config.num_heads * config.head_dim, config.hidden_size)
            layer.mlp.down_proj = SummedLinear(config.intermediate_size, config.hidden_size)
    weights = {name: _share(name, weight, rank, parts) for name, weight in model.state_dict().items()}
    part.load_state_dict(weights, assign=True)
    return part.eval()


def _share(name: str, weight: Tensor, rank: int, parts: int) -> Tensor:
    kind = name.split(".")[-2]
    if kind in SPLIT_OUTPUTS:
        return weight.chunk(parts, dim=0)[rank].clone()  # a view would keep the whole alive
    return weight.chunk(parts, dim=1)[rank].clone() if kind in SPLIT_INPUTS else weight
