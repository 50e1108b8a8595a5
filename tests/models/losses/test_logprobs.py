import pytest
import torch

from models.losses import sft_loss, summed_nll, token_logprobs
from models.losses.logprobs import _chunks


def make_case(dtype=torch.float64, tokens=150, hidden=24, vocabulary=97):
    generator = torch.Generator().manual_seed(3)
    hidden_ND = torch.randn(tokens, hidden, generator=generator, dtype=dtype, requires_grad=True)
    unembedding_VD = torch.randn(vocabulary, hidden, generator=generator, dtype=dtype, requires_grad=True)
    tokens_N = torch.randint(vocabulary, (tokens,), generator=generator)
    weights_N = torch.randn(tokens, generator=generator, dtype=dtype)
    return hidden_ND, unembedding_VD, tokens_N, weights_N


def naive(hidden_ND, unembedding_VD, tokens_N):
    return (hidden_ND @ unembedding_VD.T).log_softmax(-1).gather(1, tokens_N[:, None])[:, 0]


@pytest.mark.parametrize("chunk_elements", [97 * 32, 97 * 40, 1 << 24])
def test_logprobs_and_gradients_equal_the_naive_ones(chunk_elements):
    hidden_ND, unembedding_VD, tokens_N, weights_N = make_case()
    expected_N = naive(hidden_ND, unembedding_VD, tokens_N)
    expected = torch.autograd.grad((expected_N * weights_N).sum(), (hidden_ND, unembedding_VD))
    found_N = token_logprobs(hidden_ND, unembedding_VD, tokens_N, chunk_elements=chunk_elements)
    found = torch.autograd.grad((found_N * weights_N).sum(), (hidden_ND, unembedding_VD))
    torch.testing.assert_close(found_N, expected_N, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


def test_frozen_unembedding_gives_the_same_hidden_gradient():
    hidden_ND, unembedding_VD, tokens_N, weights_N = make_case()
    (expected,) = torch.autograd.grad((naive(hidden_ND, unembedding_VD, tokens_N) * weights_N).sum(), hidden_ND)
    logprobs_N = token_logprobs(hidden_ND, unembedding_VD.detach(), tokens_N, chunk_elements=97 * 33)
    (found,) = torch.autograd.grad((logprobs_N * weights_N).sum(), hidden_ND)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("frozen", [False, True])
def test_sft_loss_equals_cross_entropy_with_its_gradients(frozen):
    hidden_ND, unembedding_VD, tokens_N, _ = make_case()
    unembedding_VD.requires_grad_(not frozen)
    wanted = (hidden_ND,) if frozen else (hidden_ND, unembedding_VD)
    expected = torch.nn.functional.cross_entropy(hidden_ND @ unembedding_VD.T, tokens_N)
    found, metrics = sft_loss(hidden_ND, unembedding_VD, tokens_N, total_tokens=150)
    torch.testing.assert_close(found, expected)
    assert metrics["loss"] == found
    gradients = zip(torch.autograd.grad(found, wanted), torch.autograd.grad(expected, wanted), strict=True)
    for mine, theirs in gradients:
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


def test_gradcheck():
    hidden_ND, unembedding_VD, tokens_N, _ = make_case(tokens=5, hidden=4, vocabulary=7)
    torch.autograd.gradcheck(lambda h, w: token_logprobs(h, w, tokens_N), (hidden_ND, unembedding_VD))
    torch.autograd.gradcheck(lambda h, w: summed_nll(h, w, tokens_N, z_loss=0.3)[0], (hidden_ND, unembedding_VD))


@pytest.mark.parametrize("chunk_elements", [97 * 32, 1 << 24])
def test_z_loss_and_its_gradients_equal_the_naive_ones(chunk_elements):
    hidden_ND, unembedding_VD, tokens_N, _ = make_case()
    logits_NV = hidden_ND @ unembedding_VD.T
    nll = -naive(hidden_ND, unembedding_VD, tokens_N).sum()
    expected = nll + 0.01 * logits_NV.logsumexp(-1).square().sum()
    wanted = (hidden_ND, unembedding_VD)
    found, alone = summed_nll(hidden_ND, unembedding_VD, tokens_N, z_loss=0.01, chunk_elements=chunk_elements)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(alone, nll.detach(), rtol=1e-12, atol=1e-12)
    gradients = zip(torch.autograd.grad(found, wanted), torch.autograd.grad(expected, wanted), strict=True)
    for mine, theirs in gradients:
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_no_logits_of_all_tokens_are_ever_held():
    """The largest tensor that any operation makes, forward and backward, is one chunk of logits or a weight."""
    hidden_ND, unembedding_VD, tokens_N, weights_N = make_case(torch.float32, tokens=1000, hidden=8, vocabulary=997)

    class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            result = function(*arguments, **(keywords or {}))
            for tensor in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(tensor, torch.Tensor):
                    self.elements = max(self.elements, tensor.numel())
            return result

    with LargestTensor() as largest:
        (token_logprobs(hidden_ND, unembedding_VD, tokens_N, chunk_elements=997 * 50) * weights_N).sum().backward()
        summed_nll(hidden_ND, unembedding_VD, tokens_N, chunk_elements=997 * 50)[0].backward()
    assert largest.elements == 997 * 50


def test_half_precision_hidden_states_give_fp32_logprobs():
    hidden_ND, unembedding_VD, tokens_N, _ = make_case(torch.bfloat16)
    logprobs_N = token_logprobs(hidden_ND, unembedding_VD, tokens_N)
    assert logprobs_N.dtype == torch.float32
    logprobs_N.sum().backward()
    assert hidden_ND.grad is not None and hidden_ND.grad.dtype == torch.bfloat16


def test_chunks_cover_every_row_once_in_nearly_equal_sizes():
    for tokens in (0, 1, 31, 33, 1000):
        sizes = [rows.stop - rows.start for rows in _chunks(tokens, 100, 3200)]
        assert sum(sizes) == tokens
        assert not sizes or max(sizes) - min(sizes) <= 1


def test_no_trained_token_gives_zero():
    hidden_ND, unembedding_VD, tokens_N, _ = make_case(tokens=0)
    assert summed_nll(hidden_ND, unembedding_VD, tokens_N, z_loss=1.0) == (0, 0)
    assert token_logprobs(hidden_ND, unembedding_VD, tokens_N).shape == (0,)


def test_wrong_shapes_and_totals_are_named():
    hidden_ND, unembedding_VD, tokens_N, _ = make_case()
    with pytest.raises(ValueError, match=r"\(150, 24\), \(97, 24\), \(149,\)"):
        token_logprobs(hidden_ND, unembedding_VD, tokens_N[1:])
    with pytest.raises(ValueError, match="total_tokens is 0"):
        sft_loss(hidden_ND, unembedding_VD, tokens_N, total_tokens=0)
