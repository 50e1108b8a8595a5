"""Log-probabilities of given tokens from hidden states, in chunks of rows, so that logits never exist for all of them.

    logits  = hidden @ unembedding.T
    logprob = logits[token] - logsumexp(logits)
    d logprob / d logits = onehot(token) - softmax(logits)

The gradient of a plain sum is known before the backward pass, so `summed_nll` works it out while it has the logits
(three matrix products). `token_logprobs` takes any gradient, and makes each chunk's logits again for it (four products;
three where the unembedding is frozen). Where the unembedding is split over a tensor-parallel group (a DTensor), each
process makes the logits of its own rows (`models.losses.vocabulary`).

N = predicted tokens, C = tokens of a chunk, D = hidden size, V = vocabulary.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.losses.vocabulary import Vocabulary, local_part

CHUNK_ELEMENTS = 1 << 24
"""Logits held at once: 64 MiB in fp32."""


def token_logprobs(
    hidden_ND: Tensor, unembedding_VD: Tensor, tokens_N: Tensor, *, chunk_elements: int = CHUNK_ELEMENTS
) -> Tensor:
    """Log-probability of each token, [N], fp32 at least; differentiable in `hidden_ND` and `unembedding_VD`."""
    _check_shapes(hidden_ND, unembedding_VD, tokens_N)
    rows_VD, vocabulary = local_part(unembedding_VD)
    return _TokenLogprobs.apply(hidden_ND, rows_VD, tokens_N, vocabulary, chunk_elements, torch.is_grad_enabled())


def summed_nll(
    hidden_ND: Tensor,
    unembedding_VD: Tensor,
    tokens_N: Tensor,
    *,
    z_loss: float = 0.0,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> tuple[Tensor, Tensor]:
    """Minus the sum of the tokens' log-probabilities plus z_loss * sum(logsumexp^2), and the former alone; scalars.

    The z-loss (PaLM, Chowdhery et al. 2022, section 5) keeps logits from drifting; the second result has no gradient.
    """
    _check_shapes(hidden_ND, unembedding_VD, tokens_N)
    rows_VD, vocabulary = local_part(unembedding_VD)
    settings = _NLLSettings(vocabulary, z_loss, chunk_elements, torch.is_grad_enabled())
    total, nll = _SummedNLL.apply(hidden_ND, rows_VD, tokens_N, settings)
    return total, nll.detach()


class _NLLSettings(NamedTuple):
    vocabulary: Vocabulary
    z_loss: float
    chunk_elements: int
    training: bool


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        unembedding_VD: Tensor,
        tokens_N: Tensor,
        vocabulary: Vocabulary,
        chunk_elements: int,
        training: bool,
    ) -> Tensor:
        wants_hidden, wants_unembedding = (training and wanted for wanted in ctx.needs_input_grad[:2])
        ctx.vocabulary, ctx.chunk_elements = vocabulary, chunk_elements
        ctx.slopes_known = wants_hidden and not wants_unembedding
        slopes_ND = torch.empty_like(hidden_ND) if ctx.slopes_known else hidden_ND.new_empty(0)
        normalizers_N = hidden_ND.new_empty(len(tokens_N), dtype=_precision(hidden_ND))
        logprobs_N = torch.empty_like(normalizers_N)
        logits = _Logits(unembedding_VD, len(tokens_N), vocabulary, chunk_elements)
        for rows in logits.chunks:
            logits_CV = logits.of(hidden_ND[rows])
            logprobs_N[rows] = vocabulary.picked(logits_CV, tokens_N[rows])
            sums_C, normalizers_N[rows] = vocabulary.exponentiate(logits_CV)
            if ctx.slopes_known:
                slopes_CV = vocabulary.add(logits_CV.mul_(-1 / sums_C[:, None]), tokens_N[rows], 1.0)
                slopes_ND[rows] = slopes_CV.to(hidden_ND.dtype) @ unembedding_VD
        logprobs_N -= normalizers_N
        if ctx.slopes_known:
            ctx.save_for_backward(vocabulary.whole(slopes_ND))
        elif wants_hidden or wants_unembedding:
            ctx.save_for_backward(hidden_ND, unembedding_VD, tokens_N, normalizers_N)
        return logprobs_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad_N,) = grad_outputs
        if ctx.slopes_known:
            (slopes_ND,) = ctx.saved_tensors
            return slopes_ND * grad_N[:, None].to(slopes_ND.dtype), None, None, None, None, None
        hidden_ND, unembedding_VD, tokens_N, normalizers_N = ctx.saved_tensors
        grads = _Gradients(hidden_ND, unembedding_VD, ctx.needs_input_grad)
        logits = _Logits(unembedding_VD, len(tokens_N), ctx.vocabulary, ctx.chunk_elements)
        for rows in logits.chunks:
            softmax_CV = logits.of(hidden_ND[rows]).sub_(normalizers_N[rows, None]).exp_()
            grad_C1 = grad_N[rows, None]
            grads.add(rows, ctx.vocabulary.add(softmax_CV.mul_(-grad_C1), tokens_N[rows], grad_C1))
        grads.whole_hidden(ctx.vocabulary)
        return *grads.scaled(None), None, None, None, None


class _SummedNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, unembedding_VD: Tensor, tokens_N: Tensor, settings: _NLLSettings
    ) -> tuple[Tensor, Tensor]:
        vocabulary, z_loss, chunk_elements, training = settings
        grads = _Gradients(hidden_ND, unembedding_VD, ctx.needs_input_grad if training else (False, False))
        nll = hidden_ND.new_zeros((), dtype=_precision(hidden_ND))
        squares = torch.zeros_like(nll)
        logits = _Logits(unembedding_VD, len(tokens_N), vocabulary, chunk_elements)
        for rows in logits.chunks:
            logits_CV = logits.of(hidden_ND[rows])
            picked_C = vocabulary.picked(logits_CV, tokens_N[rows])
            sums_C, normalizers_C = vocabulary.exponentiate(logits_CV)
            nll += (normalizers_C - picked_C).sum()
            squares += normalizers_C.square().sum()
            if grads.wanted:
                heights_C = (1 + 2 * z_loss * normalizers_C) / sums_C
                grads.add(rows, vocabulary.add(logits_CV.mul_(heights_C[:, None]), tokens_N[rows], -1.0))
        grads.whole_hidden(vocabulary)
        ctx.grads = grads
        ctx.mark_non_differentiable(nll)
        return nll + z_loss * squares, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad, _ = grad_outputs
        return *ctx.grads.scaled(grad), None, None


class _Gradients:
    """Gradients of what is wanted of hidden states and unembedding, built up chunk by chunk."""

    def __init__(self, hidden_ND: Tensor, unembedding_VD: Tensor, wanted: tuple[bool, ...]) -> None:
        self.inputs = (hidden_ND.detach(), unembedding_VD.detach())
        self.hidden_ND = torch.empty_like(self.inputs[0]) if wanted[0] else None
        # Many chunks add up here: in bf16 small ones would vanish.
        precision = _precision(unembedding_VD)
        self.unembedding_VD = torch.zeros_like(self.inputs[1], dtype=precision) if wanted[1] else None
        self.wanted = wanted[0] or wanted[1]

    def add(self, rows: slice, grad_CV: Tensor) -> None:
        hidden_ND, unembedding_VD = self.inputs
        grad_CV = grad_CV.to(hidden_ND.dtype)
        if self.hidden_ND is not None:
            torch.mm(grad_CV, unembedding_VD, out=self.hidden_ND[rows])
        if self.unembedding_VD is not None:
            if self.unembedding_VD.dtype == grad_CV.dtype:
                self.unembedding_VD.addmm_(grad_CV.T, hidden_ND[rows])
            else:
                self.unembedding_VD += grad_CV.T @ hidden_ND[rows]

    def scaled(self, grad: Tensor | None) -> list[Tensor | None]:
        """Times the gradient of what they add up to, in the inputs' precision."""
        found = (self.hidden_ND, self.unembedding_VD)
        times = [slope if slope is None or grad is None else slope * grad for slope in found]
        return [None if s is None else s.to(own.dtype) for s, own in zip(times, self.inputs, strict=True)]

    def whole_hidden(self, vocabulary: Vocabulary) -> Tensor | None:
        """The hidden states' gradient, which every part of the vocabulary adds to."""
        return None if self.hidden_ND is None else vocabulary.whole(self.hidden_ND)


class _Logits:
    """Logits of one chunk after another, in the same memory: a CPU touches new pages more slowly than it fills old."""

    def __init__(self, unembedding_VD: Tensor, tokens: int, vocabulary: Vocabulary, chunk_elements: int) -> None:
        self.unembedding_VD = unembedding_VD.detach()
        self.chunks = [*_chunks(tokens, vocabulary.rows or len(unembedding_VD), chunk_elements)]
        rows = max((chunk.stop - chunk.start for chunk in self.chunks), default=0)
        self.memory_CV = unembedding_VD.new_empty((rows, len(unembedding_VD)), dtype=_precision(unembedding_VD))

    def of(self, hidden_CD: Tensor) -> Tensor:
        """Good until the next chunk's; may be written to."""
        logits_CV = self.memory_CV[: len(hidden_CD)]
        if hidden_CD.dtype == logits_CV.dtype:
            return torch.mm(hidden_CD, self.unembedding_VD.T, out=logits_CV)
        return logits_CV.copy_(hidden_CD @ self.unembedding_VD.T)


def _chunks(tokens: int, vocabulary: int, chunk_elements: int) -> Iterator[slice]:
    """Slices of nearly equal size: a short last chunk would take another GEMM path than the rest."""
    largest = max(32, chunk_elements // vocabulary)
    pieces = -(-tokens // largest)
    bounds = [tokens * piece // pieces for piece in range(pieces + 1)] if pieces else [0]
    return (slice(start, end) for start, end in pairwise(bounds))


def _precision(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _check_shapes(hidden_ND: Tensor, unembedding_VD: Tensor, tokens_N: Tensor) -> None:
    shapes = tuple(hidden_ND.shape), tuple(unembedding_VD.shape), tuple(tokens_N.shape)
    if hidden_ND.dim() != 2 or tokens_N.dim() != 1 or hidden_ND.shape != (len(tokens_N), unembedding_VD.shape[1]):
        raise ValueError(f"hidden states, unembedding and tokens are {shapes}; expected [N, D], [V, D] and [N]")
