"""Against what autograd makes of the plain operations: the same bits forwards, the same gradients backwards."""

import pytest
import torch
import torch.nn.functional as F

from models.fused import rms_norm, rotate_all, swiglu


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def angles(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    half = torch.arange(7, dtype=dtype)[None, :, None, None] * torch.tensor([1.0, 0.3, 0.02, 0.001], dtype=dtype)
    whole = torch.cat((half, half), dim=-1)
    return whole.cos(), whole.sin()


def plain_rotation(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    first, second = heads.chunk(2, dim=-1)
    return heads * cosine + torch.cat((-second, first), dim=-1) * sine


def cases(dtype: torch.dtype):
    hidden, other, weight = draw(2, 7, 40, dtype=dtype), draw(2, 7, 40, dtype=dtype, seed=1), draw(40, dtype=dtype)
    heads, turns = draw(2, 7, 3, 8, dtype=dtype), angles(dtype)
    return {
        "swiglu": (swiglu, lambda gate, up: F.silu(gate) * up, (hidden, other), ()),
        "rms_norm": (rms_norm, lambda x, w, eps: F.rms_norm(x, w.shape, w, eps), (hidden, weight), (1e-5,)),
        "rotate_all": (rotate_all, plain_rotation, (heads,), turns),
    }


@pytest.mark.parametrize("name", cases(torch.float32))
def test_forward_gives_the_bits_of_the_plain_operations(name: str):
    ours, plain, inputs, settings = cases(torch.float32)[name]
    assert torch.equal(ours(*inputs, *settings), plain(*inputs, *settings))
    with torch.inference_mode():
        assert torch.equal(ours(*inputs, *settings), plain(*inputs, *settings))


@pytest.mark.parametrize("name", cases(torch.float64))
def test_gradients_equal_those_of_the_plain_operations(name: str):
    ours, plain, inputs, settings = cases(torch.float64)[name]
    torch.autograd.gradcheck(lambda *tensors: ours(*tensors, *settings), inputs)
    weights = draw(*ours(*inputs, *settings).shape, dtype=torch.float64, seed=2).detach()
    found = torch.autograd.grad((ours(*inputs, *settings) * weights).sum(), inputs)
    expected = torch.autograd.grad((plain(*inputs, *settings) * weights).sum(), inputs)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_a_frozen_norm_weight_needs_no_gradient():
    hidden, weight = draw(2, 7, 40), draw(40).detach()
    (found,) = torch.autograd.grad(rms_norm(hidden, weight, 1e-5).square().sum(), hidden)
    (expected,) = torch.autograd.grad(F.rms_norm(hidden, (40,), weight, 1e-5).square().sum(), hidden)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", cases(torch.float32))
def test_only_inputs_and_a_number_a_row_are_kept(name: str):
    ours, _, inputs, settings = cases(torch.float32)[name]
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.numel()) or tensor, lambda t: t):
        ours(*inputs, *settings)
    given = [tensor.numel() for tensor in (*inputs, *settings) if isinstance(tensor, torch.Tensor)]
    assert sum(sizes) <= sum(given) + 2 * 7


def test_views_of_a_wider_tensor_can_be_rotated():
    wide, turns = draw(2, 7, 5, 8), angles(torch.float32)
    found = rotate_all(wide[:, :, 1:4], *turns)
    assert torch.equal(found, plain_rotation(wide[:, :, 1:4], *turns))
    found.sum().backward()
    assert wide.grad is not None and not wide.grad[:, :, 0].any() and wide.grad[:, :, 2].any()
