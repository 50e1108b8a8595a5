"""Weights that were split over processes, whole again in one of them, one at a time."""

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from models.decoder import Decoder
from models.parallel.workers import Workers
from models.streamed import streamed


@torch.no_grad()
def whole(weight: Tensor, workers: Workers) -> Tensor:
    """The whole weight on the processor in the first process, and without memory (meta) in the others.

    All processes call it together.
    """
    moved = weight.detach().to(workers.device)
    moved = moved.full_tensor() if isinstance(moved, DTensor) else moved
    return moved.to(home(workers)).contiguous()


def gathering(model: Decoder, workers: Workers) -> Decoder:
    """A decoder that gathers the model's weights as its forward pass comes to them, in fp32 on the first processor.

    All processes run it together, those after the first one on the meta device (`home`).
    """
    weights = model.state_dict()
    return streamed(model.config, lambda name: whole(weights[name], workers))


def home(workers: Workers) -> torch.device:
    """Where `whole` puts weights."""
    return torch.device("cpu" if workers.rank == 0 else "meta")
