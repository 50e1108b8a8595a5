"""Training's state on disk: named tensors, whole or split over processes, in files that any other split can read.

torch's distributed checkpoint does the work: each process writes its own slices, and reads those that it needs of
whatever was written, by 4 processes or by 2. Its safetensors format holds no pickle.
"""

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

# Said of every save and load of a single process, which is told to have no group.
warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")

Shapes = dict[str, tuple[int, ...]]


def save_state(tensors: Mapping[str, Tensor], folder: Path) -> Callable[[], None]:
    """Copy the tensors now and write them into `folder` in the background; the result waits for that.

    Every process calls it, with the same names. Waiting raises what went wrong.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    group = _side_group()
    copyable = {name: _copyable(tensor) for name, tensor in tensors.items()}
    future = async_save(copyable, storage_writer=writer, process_group=group, no_dist=group is None)
    assert isinstance(future, Future)

    def wait() -> None:
        future.result()

    return wait


def _copyable(tensor: Tensor) -> Tensor:
    """A layer's gradients lie in one buffer of FSDP; on a processor torch copies no split tensor from inside of one."""
    return tensor.clone() if tensor.device.type == "cpu" and tensor.storage_offset() else tensor


def load_state(tensors: Mapping[str, Tensor], folder: Path, leaving_out: str | None = None) -> None:
    """Fill the tensors in place. Raises ValueError where the folder holds others than these and those whose names begin
    with `leaving_out`."""
    expected = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = stored_shapes(folder)
    if leaving_out is not None:
        found = {name: shape for name, shape in found.items() if not name.startswith(leaving_out)}
    if found != expected:
        differing = sorted(set(found.items()) ^ set(expected.items()))[:4]
        raise ValueError(f"the checkpoint in {folder} is of another model: {differing} differ; remove it")
    _load(tensors, folder)


def load_weights_into(model: nn.Module, folder: Path) -> None:
    """Fill a model, whole or split, from a Hugging Face folder that is known to fit: each process reads its slices."""
    weights = {name: parameter.detach() for name, parameter in model.state_dict(keep_vars=True).items()}
    _load(weights, folder)


def stored_shapes(folder: Path) -> Shapes:
    """Whole shape of every tensor that the folder holds."""
    metadata = HuggingFaceStorageReader(str(folder)).read_metadata()
    return {name: tuple(stored.size) for name, stored in metadata.state_dict_metadata.items()}  # type: ignore[union-attr]


def _load(tensors: Mapping[str, Tensor], folder: Path) -> None:
    group, reader = _side_group(), HuggingFaceStorageReader(str(folder))
    load(dict(tensors), storage_reader=reader, process_group=group, no_dist=group is None)


@lru_cache(maxsize=1)
def _side_group() -> dist.ProcessGroup | None:
    """A group for checkpoints alone: what is written in the background must not meet training's own exchanges."""
    if not dist.is_initialized():
        return None
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)  # this process is in it, as all are
    return group
