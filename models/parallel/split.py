"""Splits a model over the processes of a plan, from outside: the decoder's own code does not change.

    tensor     q, k, v, gate, up: by columns   o, down: by rows   embedding and unembedding: by the vocabulary
               norms and residuals: by tokens (sequence parallel), so that a row needs a multiple of `tensor` tokens
               low-rank additions: as their layer, and whole where they lie across its split
    FSDP       every layer, and the rest of the model, is sharded over "shards" and copied over "replicas"; master
               weights and gradient sums stay in fp32 while layers may compute in bf16
    recompute  activations that are made again in the backward pass: of MLPs ("selective") or of whole layers ("full")

The loss over a split vocabulary is in `models.losses.vocabulary`.
"""

from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.fsdp import register_fsdp_forward_method as register_forward
from torch.distributed.tensor import Partial, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    PrepareModuleInputOutput,
    PrepareModuleOutput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.utils.checkpoint import checkpoint

from models.decoder import Decoder
from models.lora import LoRALinear
from models.parallel.workers import Workers

Recompute = Literal["none", "selective", "full"]


def recompute_activations(model: Decoder, kind: Recompute) -> None:
    """Let the chosen parts run again in the backward pass instead of keeping what they made."""
    if kind == "none":
        return
    for layer in model.layers:
        part: Any = layer if kind == "full" else layer.mlp
        # There is no dropout, so no random state to carry over.
        part.forward = partial(checkpoint, part.forward, use_reentrant=False, preserve_rng_state=False)


def split_layers(model: Decoder, mesh: DeviceMesh) -> None:
    """Tensor and sequence parallelism over a one-dimensional mesh."""
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    for layer in model.layers:
        parallelize_module(layer, mesh, _layer_plan(layer))
    plan: dict[str, ParallelStyle] = {
        "embed_tokens": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
        "norm": SequenceParallel(),
    }
    parallelize_module(model.model, mesh, plan)
    whole = PrepareModuleOutput(output_layouts=Shard(1), desired_output_layouts=Replicate())
    parallelize_module(model, mesh, {"model": whole})
    if model.lm_head is not None:
        parallelize_module(model, mesh, {"lm_head": ColwiseParallel(use_local_output=False)})
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)  # SequenceParallel's new parameters are trainable


def _layer_plan(layer: nn.Module) -> dict[str, ParallelStyle]:
    gathered = (Shard(1), None, None, None)
    plan: dict[str, ParallelStyle] = {
        "input_layernorm": SequenceParallel(),
        "post_attention_layernorm": SequenceParallel(),
        "self_attn": PrepareModuleInput(
            input_layouts=gathered, desired_input_layouts=(Replicate(), None, None, None), use_local_output=True
        ),
        "mlp": PrepareModuleInput(input_layouts=Shard(1), desired_input_layouts=Replicate(), use_local_output=True),
    }
    matrices = [name for name, _ in layer.named_modules() if name.endswith("_proj")]
    return plan | {name: _matrix_style(name, isinstance(layer.get_submodule(name), LoRALinear)) for name in matrices}


def _matrix_style(name: str, adapted: bool) -> ParallelStyle:
    if name.endswith(("o_proj", "down_proj")):
        return AdaptedRowwise() if adapted else RowwiseParallel(output_layouts=Shard(1))
    return AdaptedColwise() if adapted else ColwiseParallel()


class AdaptedParallel(PrepareModuleInputOutput):
    """A layer with low-rank additions as its style would split it without: DTensor works out what its formula takes.

    Sums over the group are made once, of the layer and its addition together, and once more of |V|'s squares.
    """

    places: dict[str, Placement]
    """Of the layer's own weight and of each part of the addition."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        for part in [*module.modules()]:
            for name, weight in [*part.named_parameters(recurse=False)]:
                split = distribute_tensor(weight, device_mesh, [self.places[name]])
                part.register_parameter(name, nn.Parameter(split, requires_grad=weight.requires_grad))
        return super()._apply(module, device_mesh)


class AdaptedColwise(AdaptedParallel):
    places = {"weight": Shard(0), "down": Replicate(), "up": Shard(0), "magnitude": Shard(0)}

    def __init__(self) -> None:
        super().__init__(
            input_layouts=Replicate(),
            desired_input_layouts=Replicate(),
            output_layouts=Shard(-1),
            desired_output_layouts=Shard(-1),
        )


class AdaptedRowwise(AdaptedParallel):
    places = {"weight": Shard(1), "down": Shard(1), "up": Replicate(), "magnitude": Replicate()}

    def __init__(self) -> None:
        super().__init__(
            input_layouts=Shard(-1),
            desired_input_layouts=Shard(-1),
            output_layouts=Partial(),
            desired_output_layouts=Shard(1),
        )


def shard(model: Decoder, rest: list[nn.Module], workers: Workers, dtype: torch.dtype, offload: bool) -> None:
    """FSDP over the data-parallel processes: `model`, its layers, and the modules of `rest` (a reward head).

    Gradients are summed, not averaged: each process's loss is its share of the global batch's already.
    """
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    offloading = CPUOffloadPolicy() if offload else OffloadPolicy()
    mesh = workers.mesh["replicas", "shards"] if workers.plan.replicas > 1 else workers.mesh["shards"]
    for module in [*model.layers, model, *rest]:
        fully_shard(module, mesh=mesh, mp_policy=policy, offload_policy=offloading)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other
    register_forward(model, "hidden")


def parallelize(
    model: Decoder, rest: list[nn.Module], workers: Workers, *, dtype: torch.dtype, recompute: Recompute, offload: bool
) -> None:
    """Everything that the plan asks for, in the order that it must happen. Raises ValueError where it does not fit."""
    workers.plan.check(model.config)
    recompute_activations(model, recompute)
    if workers.plan.tensor > 1:
        split_layers(model, workers.mesh["tensor"])
    if workers.together:
        shard(model, rest, workers, dtype, offload)
