"""A model that was split over processes, whole again in one of them."""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from models.decoder import Decoder
from models.parallel.workers import Workers
from models.reward import RewardModel


def gathered(model: Decoder, workers: Workers) -> Decoder | None:
    """The whole model on the processor, in the first process; None in the others. All processes call it together.

    A model that was not split is returned as it is.
    """
    if not workers.together:
        return model
    weights = whole_weights(model, workers)
    if weights is None:
        return None
    with torch.device("meta"):
        plain = Decoder(model.config)
    plain.load_state_dict(weights, assign=True)
    return plain.eval()


def gathered_reward_model(model: RewardModel, workers: Workers) -> RewardModel | None:
    """The same for a reward model."""
    if not workers.together:
        return model
    decoder, head = gathered(model.decoder, workers), whole_weights(model.head, workers)
    if decoder is None or head is None:
        return None
    plain = RewardModel(decoder, model.config)
    plain.head.load_state_dict(head)
    return plain.eval()


@torch.no_grad()
def whole_weights(module: nn.Module, workers: Workers) -> dict[str, Tensor] | None:
    """Whole weights by Hugging Face's names on the processor, in the first process only."""
    weights = {}
    for name, tensor in module.state_dict().items():
        moved = tensor.to(workers.device)
        whole = moved.full_tensor() if isinstance(moved, DTensor) else moved
        if workers.rank == 0:
            weights[name] = whole.detach().cpu()
    return weights if workers.rank == 0 else None
