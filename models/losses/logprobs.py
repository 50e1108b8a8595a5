"""Log-probabilities of given tokens from hidden states, in chunks of rows, so that logits never exist for all of them.

    logits  = hidden @ unembedding.T
    logprob = logits[token] - logsumexp(logits)
    d logprob / d logits = onehot(token) - softmax(logits)

The gradient of a plain sum is known before the backward pass, so `summed_nll` works it out while it has the logits
(three matrix products). `token_logprobs` takes any gradient, and makes each chunk's logits again for it (four products;
three where the unembedding is frozen).

N = predicted tokens, C = tokens of a chunk, D = hidden size, V = vocabulary.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 1 << 24
"""Logits held at once: 64 MiB in fp32."""


def token_logprobs(
    hidden_ND: Tensor, unembedding_VD: Tensor, tokens_N: Tensor, *, chunk_elements: int = CHUNK_ELEMENTS
) -> Tensor:
    """Log-probability of each token, [N], fp32 at least; differentiable in `hidden_ND` and `unembedding_VD`."""
    _check_shapes(hidden_ND, unembedding_VD, tokens_N)
    return _TokenLogprobs.apply(hidden_ND, unembedding_VD, tokens_N, chunk_elements, torch.is_grad_enabled())


def summed_nll(
    hidden_ND: Tensor, unembedding_VD: Tensor, tokens_N: Tensor, *, chunk_elements: int = CHUNK_ELEMENTS
) -> Tensor:
    """Minus the sum of the tokens' log-probabilities, a scalar."""
    _check_shapes(hidden_ND, unembedding_VD, tokens_N)
    return _SummedNLL.apply(hidden_ND, unembedding_VD, tokens_N, chunk_elements, torch.is_grad_enabled())


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, unembedding_VD: Tensor, tokens_N: Tensor, chunk_elements: int, training: bool
    ) -> Tensor:
        wants_hidden, wants_unembedding = (training and wanted for wanted in ctx.needs_input_grad[:2])
        ctx.chunk_elements = chunk_elements
        ctx.slopes_known = wants_hidden and not wants_unembedding
        slopes_ND = torch.empty_like(hidden_ND) if ctx.slopes_known else hidden_ND.new_empty(0)
        normalizers_N = hidden_ND.new_empty(len(tokens_N), dtype=_precision(hidden_ND))
        logprobs_N = torch.empty_like(normalizers_N)
        for rows in _chunks(len(tokens_N), len(unembedding_VD), chunk_elements):
            logits_CV = _logits(hidden_ND[rows], unembedding_VD)
            normalizers_N[rows] = logits_CV.logsumexp(-1)
            logprobs_N[rows] = _picked(logits_CV, tokens_N[rows]) - normalizers_N[rows]
            if ctx.slopes_known:
                slopes_CV = _logit_slopes(logits_CV, normalizers_N[rows], tokens_N[rows])
                slopes_ND[rows] = slopes_CV.to(hidden_ND.dtype) @ unembedding_VD
        if ctx.slopes_known:
            ctx.save_for_backward(slopes_ND)
        elif wants_hidden or wants_unembedding:
            ctx.save_for_backward(hidden_ND, unembedding_VD, tokens_N, normalizers_N)
        return logprobs_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad_N,) = grad_outputs
        if ctx.slopes_known:
            (slopes_ND,) = ctx.saved_tensors
            return slopes_ND * grad_N[:, None].to(slopes_ND.dtype), None, None, None, None
        hidden_ND, unembedding_VD, tokens_N, normalizers_N = ctx.saved_tensors
        grads = _Gradients(hidden_ND, unembedding_VD, ctx.needs_input_grad)
        for rows in _chunks(len(tokens_N), len(unembedding_VD), ctx.chunk_elements):
            logits_CV = _logits(hidden_ND[rows], unembedding_VD)
            slopes_CV = _logit_slopes(logits_CV, normalizers_N[rows], tokens_N[rows])
            grads.add(rows, slopes_CV.mul_(grad_N[rows, None]))
        return grads.hidden_ND, grads.unembedding_VD, None, None, None


class _SummedNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, unembedding_VD: Tensor, tokens_N: Tensor, chunk_elements: int, training: bool
    ) -> Tensor:
        grads = _Gradients(hidden_ND, unembedding_VD, ctx.needs_input_grad if training else (False, False))
        total = hidden_ND.new_zeros((), dtype=_precision(hidden_ND))
        for rows in _chunks(len(tokens_N), len(unembedding_VD), chunk_elements):
            logits_CV = _logits(hidden_ND[rows], unembedding_VD)
            normalizers_C = logits_CV.logsumexp(-1)
            total += (normalizers_C - _picked(logits_CV, tokens_N[rows])).sum()
            if grads.wanted:
                grads.add(rows, _logit_slopes(logits_CV, normalizers_C, tokens_N[rows]).neg_())
        ctx.grads = grads
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,) = grad_outputs
        found = (ctx.grads.hidden_ND, ctx.grads.unembedding_VD)
        scaled = [None if slope is None else slope * grad.to(slope.dtype) for slope in found]
        return scaled[0], scaled[1], None, None, None


class _Gradients:
    """Gradients of what is wanted of hidden states and unembedding, built up chunk by chunk."""

    def __init__(self, hidden_ND: Tensor, unembedding_VD: Tensor, wanted: tuple[bool, ...]) -> None:
        self.inputs = (hidden_ND.detach(), unembedding_VD.detach())
        self.hidden_ND = torch.empty_like(self.inputs[0]) if wanted[0] else None
        self.unembedding_VD = torch.zeros_like(self.inputs[1]) if wanted[1] else None
        self.wanted = wanted[0] or wanted[1]

    def add(self, rows: slice, grad_CV: Tensor) -> None:
        hidden_ND, unembedding_VD = self.inputs
        grad_CV = grad_CV.to(hidden_ND.dtype)
        if self.hidden_ND is not None:
            torch.mm(grad_CV, unembedding_VD, out=self.hidden_ND[rows])
        if self.unembedding_VD is not None:
            self.unembedding_VD.addmm_(grad_CV.T, hidden_ND[rows])


def _chunks(tokens: int, vocabulary: int, chunk_elements: int) -> Iterator[slice]:
    """Slices of nearly equal size: a short last chunk would take another GEMM path than the rest."""
    largest = max(32, chunk_elements // vocabulary)
    pieces = -(-tokens // largest)
    bounds = [tokens * piece // pieces for piece in range(pieces + 1)] if pieces else [0]
    return (slice(start, end) for start, end in pairwise(bounds))


def _precision(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _logits(hidden_CD: Tensor, unembedding_VD: Tensor) -> Tensor:
    return (hidden_CD @ unembedding_VD.T).to(_precision(hidden_CD))


def _picked(logits_CV: Tensor, tokens_C: Tensor) -> Tensor:
    return logits_CV.gather(1, tokens_C[:, None])[:, 0]


def _logit_slopes(logits_CV: Tensor, normalizers_C: Tensor, tokens_C: Tensor) -> Tensor:
    """onehot(token) - softmax(logits), made in place of the logits."""
    slopes_CV = logits_CV.sub_(normalizers_C[:, None]).exp_().neg_()
    return slopes_CV.scatter_add_(1, tokens_C[:, None], torch.ones_like(slopes_CV[:, :1]))


def _check_shapes(hidden_ND: Tensor, unembedding_VD: Tensor, tokens_N: Tensor) -> None:
    shapes = tuple(hidden_ND.shape), tuple(unembedding_VD.shape), tuple(tokens_N.shape)
    if hidden_ND.dim() != 2 or tokens_N.dim() != 1 or hidden_ND.shape != (len(tokens_N), unembedding_VD.shape[1]):
        raise ValueError(f"hidden states, unembedding and tokens are {shapes}; expected [N, D], [V, D] and [N]")
