"""Transformer Engine's modules under FSDP, one process of two; run by test_te.py: `sharded.py RANK FILE`."""

import sys
from unittest import mock

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from models.te.convert import to_te
from tests.numerics.te import cases
from tests.numerics.te.on_cpu import PRODUCT, Product, plain_torch, warm_up


def check(family: str) -> None:
    """Gradients and weights of a sharded model, by the plain one's names, are those of the plain one."""
    plain = cases.some_model(cases.CONFIGS[family])
    cases.loss_of(plain).backward()
    expected = dict(plain.named_parameters())
    fused = warm_up(to_te(cases.some_model(cases.CONFIGS[family]), "fp32"))
    with mock.patch.object(torch.cuda, "is_available", lambda: False):  # what building the modules pretends
        mesh = init_device_mesh("cpu", (2,))
        for module in [*fused.layers, fused]:
            fully_shard(module, mesh=mesh)
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other
        (cases.loss_of(fused) / 2).backward()
    sharded = fused.state_dict(keep_vars=True)
    assert list(sharded) == list(plain.state_dict())
    for name, parameter in sharded.items():
        assert torch.equal(parameter.full_tensor(), expected[name]), name
        torch.testing.assert_close(parameter.grad.full_tensor(), expected[name].grad, rtol=0, atol=1e-5)


if __name__ == "__main__":
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=int(sys.argv[1]), world_size=2)
    with plain_torch(), mock.patch(PRODUCT, Product.apply):
        for family in ("nemotron", "llama"):
            check(family)
    dist.destroy_process_group()
