"""The processes that train together, as each of them sees them; one process on its own is the simplest case."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from models.parallel.plan import ALONE, ParallelPlan


@dataclass(frozen=True)
class Workers:
    """`plan.world` processes of an initialised process group, or this process alone."""

    plan: ParallelPlan = ALONE
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    row_multiple: int = 1
    """Tokens that a packed row must be a multiple of: sequence parallelism splits it evenly."""

    @property
    def together(self) -> bool:
        """Whether the model is in FSDP's hands: with several processes, and on a GPU also with one."""
        return self.plan.world > 1 or self.device.type == "cuda"

    @property
    def rank(self) -> int:
        return dist.get_rank() if self.together else 0

    @property
    def data_rank(self) -> int:
        """Which of the plan's `data_ranks` groups this process is in; tensor-parallel neighbours are in the same."""
        return self.rank // self.plan.tensor

    @cached_property
    def mesh(self) -> DeviceMesh:
        """Dimensions "replicas", "shards" and "tensor"; tensor-parallel neighbours have neighbouring ranks.

        Raises ValueError where the process group has another size than the plan.
        """
        if not dist.is_initialized() or dist.get_world_size() != self.plan.world:
            found = dist.get_world_size() if dist.is_initialized() else "no process group"
            raise ValueError(f"the plan {self.plan} is for {self.plan.world} processes; there are {found}")
        shape = (self.plan.replicas, self.plan.shards, self.plan.tensor)
        return init_device_mesh(self.device.type, shape, mesh_dim_names=("replicas", "shards", "tensor"))

    def agree(self, wish: bool) -> bool:
        """What the first process wishes: clocks differ, and all must do the same. No GPU is waited for."""
        if self.plan.world == 1:
            return wish
        first = torch.tensor(wish)
        dist.broadcast(first, 0)
        return bool(first)

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """The values of all data-parallel groups together; every process passes the same names."""
        if self.plan.world == 1:
            return dict(values)
        totals = self.sum_tensor(torch.tensor([*values.values()], dtype=torch.float64, device=self.device))
        dist.broadcast(totals, 0)  # what is decided by them must be decided alike
        return dict(zip(values, totals.tolist(), strict=True))

    def sum_tensor(self, values: Tensor) -> Tensor:
        """The same of a tensor, of the same shape everywhere, in place."""
        if self.plan.data_ranks > 1:
            dist.all_reduce(values)
            values /= self.plan.tensor
        return values

    def clip(self, parameters: Iterable[nn.Parameter], limit: float) -> float:
        """Scale the gradients down to a global norm of at most `limit`; returns the norm before."""
        with_grads = [parameter for parameter in parameters if parameter.grad is not None]
        if not self.together:
            return float(nn.utils.clip_grad_norm_(with_grads, limit))
        gradients = [parameter.grad for parameter in with_grads if parameter.grad is not None]
        own = torch.zeros((), dtype=torch.float64, device=self.device)
        for gradient in gradients:
            own += local(gradient).double().square().sum() * self._share(gradient)
        dist.all_reduce(own)
        norm = float(own.sqrt())
        if norm > limit:
            for gradient in gradients:
                local(gradient).mul_(limit / (norm + 1e-6))
        return norm

    def _share(self, gradient: Tensor) -> float:
        """Of a gradient's slice, which may lie with several processes, what each of these should count."""
        if not isinstance(gradient, DTensor):
            return 1 / self.plan.world
        split = [s for s, place in zip(gradient.device_mesh.shape, gradient.placements, strict=True)
                 if not place.is_replicate()]  # fmt: skip
        return prod(split) / self.plan.world


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor that may be split."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
