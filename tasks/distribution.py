"""How a training stage is spread over processes and devices, as its resources say."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import HashStore

from infra.artifacts import Artifact
from infra.errors import InputError
from models.decoder import Decoder
from models.parallel.split import parallelize
from models.parallel.workers import Workers
from models.te.convert import to_te
from models.te.shapes import check_shape
from models.train_state import load_weights_into
from tasks.configs.base import Resources
from tasks.configs.training import AlignmentConfig, TrainingConfig

GPU_BACKEND = "cpu:gloo,cuda:nccl"
"""Offloaded weights are exchanged too."""


def distribute(
    config: TrainingConfig, model: Decoder, checkpoint: Artifact | None, rest: Sequence[nn.Module] = ()
) -> Workers:
    """`spread` a model to train, and `rest` beside it. Raises InputError also for too small a global batch."""
    if isinstance(config, AlignmentConfig):
        with fitting(config.stage):
            config.resources.parallel_plan.check_batch(config.global_batch_size)
    return spread(config.stage, config.resources, model, checkpoint, rest)


def spread(
    stage: str, resources: Resources, model: Decoder, checkpoint: Artifact | None, rest: Sequence[nn.Module] = ()
) -> Workers:
    """Split the model over the processes of a stage; returns this process's place among them.

    Weights that have not been read yet are read from `checkpoint`. Raises InputError where the resources do not fit
    the model or this machine.
    """
    plan, precision, recompute = resources.parallel_plan, resources.written_precision, resources.recompute
    workers = Workers(plan, training_device(resources), row_multiple=plan.tensor)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    if precision != "fp32" and workers.device.type == "cpu":
        raise InputError(
            f"{stage}: precision is {precision} and it trains on a processor, which has fp32 only",
            "set resources.precision to auto, or give it GPUs",
        )
    with fitting(stage):
        if resources.kernels == "te":
            check_shape(model.config, precision, plan.tensor)
            to_te(model, precision, resources.fp8_scaling, recompute_mlp=recompute == "selective")
            recompute = "full" if recompute == "full" else "none"  # its MLP recomputes by itself
        parallelize(model, [*rest], workers, dtype=dtype, recompute=recompute, offload=resources.offload)
    if checkpoint is not None and model.unembedding_VD.is_meta:
        model.to_empty(device="cpu" if resources.offload else workers.device)
        load_weights_into(model, checkpoint.folder())
    return workers


@contextmanager
def fitting(stage: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InputError(f"{stage}: {error}", "change the stage's resources") from error


def training_device(resources: Resources) -> torch.device:
    """Where this process trains; on a GPU it is in a process group, if only of its own."""
    device = device_for(resources)
    if device.type == "cpu":
        if resources.offload:
            raise InputError("resources.offload is on, and the stage asks for no GPU", "set it to false, or add a GPU")
        return device
    if not dist.is_initialized():  # mixed precision is FSDP's, which wants a group even of one
        dist.init_process_group(GPU_BACKEND, store=HashStore(), rank=0, world_size=1)
    return torch.device("cuda", torch.cuda.current_device())


def device_for(resources: Resources) -> torch.device:
    if not resources.gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(
            f"the stage asks for {resources.gpus} GPUs and torch sees none", "set its resources.gpus to 0, or add one"
        )
    return torch.device("cuda")
