"""Elementwise steps of the decoder that training makes in fewer passes over memory, keeping less for the backward pass.

Autograd would keep what each small operation made and make a new tensor for each; here the forward pass gives the same
bits as the plain operations, and the backward pass is written out.

    swiglu    h = silu(g) * u              keeps g, u
              dg = dh * u * silu'(g)       du = dh * silu(g)
    rms_norm  y = w * n,  n = x * r        keeps x, r;  r = 1 / sqrt(mean(x^2) + eps)
              dx = r * (e - n * mean(e * n)),  e = dy * w      dw = sum(dy * n)
    rotate    y = x * cos + turned(x) * sin    keeps cos, sin; its transpose turns back

B = rows, T = tokens of a row, N = heads, d = dimensions of a head, R = rotated dimensions, F = MLP width,
D = hidden size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor


def swiglu(gate_BTF: Tensor, up_BTF: Tensor) -> Tensor:
    """silu(gate) * up."""
    return _SwiGLU.apply(gate_BTF, up_BTF)


def norms_here(tensor: Tensor) -> bool:
    """Where torch has no norm kernel of its own, and tokens are not split over processes."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and not isinstance(tensor, DTensor)


def rms_norm(hidden_BTD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """As torch's on a CPU, bit for bit, for fp32."""
    if torch.is_grad_enabled():
        return _RMSNorm.apply(hidden_BTD, weight_D, eps)
    return _scale(hidden_BTD, eps).mul(hidden_BTD).mul_(weight_D)


def rotate_all(heads_BTNd: Tensor, cosine_BT1R: Tensor, sine_BT1R: Tensor) -> Tensor:
    """Rotate every dimension of each head."""
    if torch.is_grad_enabled():
        return _Rotation.apply(heads_BTNd, cosine_BT1R, sine_BT1R)
    return _turn(heads_BTNd, cosine_BT1R, sine_BT1R, back=False)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_BTF: Tensor, up_BTF: Tensor) -> Tensor:
        ctx.save_for_backward(gate_BTF, up_BTF)
        return F.silu(gate_BTF).mul_(up_BTF)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad_BTF,) = grad_outputs
        gate_BTF, up_BTF = ctx.saved_tensors
        grad_gate_BTF = torch.ops.aten.silu_backward(grad_BTF * up_BTF, gate_BTF)
        return grad_gate_BTF, F.silu(gate_BTF).mul_(grad_BTF)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_BTD: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        scale_BT1 = _scale(hidden_BTD, eps)
        ctx.save_for_backward(hidden_BTD, weight_D, scale_BT1)
        return (hidden_BTD * scale_BT1).mul_(weight_D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad_BTD,) = grad_outputs
        hidden_BTD, weight_D, scale_BT1 = ctx.saved_tensors
        normed_BTD = hidden_BTD * scale_BT1
        product_BTD = grad_BTD * normed_BTD
        grad_weight_D = product_BTD.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        shared_BT1 = product_BTD.matmul(weight_D)[..., None].div_(-hidden_BTD.shape[-1])
        grad_hidden_BTD = torch.mul(grad_BTD, weight_D, out=product_BTD)
        return grad_hidden_BTD.addcmul_(normed_BTD, shared_BT1).mul_(scale_BT1), grad_weight_D, None


def _scale(hidden_BTD: Tensor, eps: float) -> Tensor:
    """1 / root mean square of each token, [B, T, 1]."""
    return hidden_BTD.square().sum(-1, keepdim=True).div_(float(hidden_BTD.shape[-1])).add_(eps).rsqrt_()


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads_BTNd: Tensor, cosine_BT1R: Tensor, sine_BT1R: Tensor) -> Tensor:
        ctx.save_for_backward(cosine_BT1R, sine_BT1R)
        return _turn(heads_BTNd, cosine_BT1R, sine_BT1R, back=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad_BTNd,) = grad_outputs
        return _turn(grad_BTNd, *ctx.saved_tensors, back=True), None, None


def _turn(heads_BTNd: Tensor, cosine_BT1R: Tensor, sine_BT1R: Tensor, back: bool) -> Tensor:
    """Both halves of sine and cosine are alike, so turning back is turning by the negative angle."""
    turned_BTNd = heads_BTNd * cosine_BT1R
    first, second = heads_BTNd.chunk(2, dim=-1)
    turned_first, turned_second = turned_BTNd.chunk(2, dim=-1)
    half = sine_BT1R[..., : first.shape[-1]]
    sign = -1 if back else 1
    turned_first.add_(second * half, alpha=-sign)  # addcmul may round once where the plain operations round twice
    turned_second.add_(first * half, alpha=sign)
    return turned_BTNd
