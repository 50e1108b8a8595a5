"""Supervised next-token loss: the mean over every trained token of the global batch, not of a microbatch.

    loss = (sum(-logprob of each trained token here) + z_loss * sum(logsumexp(its logits)^2)) / tokens
    tokens: trained tokens of the global batch

so that microbatches' losses and gradients add up to the batch's, however it is split. User turns are not trained
(paper, section 3.3.1).

N = trained tokens of the microbatch, D = hidden size, V = vocabulary.
"""

from torch import Tensor

from models.losses.logprobs import summed_nll


def sft_loss(
    hidden_ND: Tensor, unembedding_VD: Tensor, tokens_N: Tensor, *, total_tokens: float, z_loss: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """`hidden_ND` are the states that predict `tokens_N`. Metrics, without z-loss, add up over microbatches."""
    if total_tokens <= 0:
        raise ValueError(f"total_tokens is {total_tokens}; expected the trained tokens of the global batch, above 0")
    loss, nll = summed_nll(hidden_ND, unembedding_VD, tokens_N, z_loss=z_loss)
    return loss / total_tokens, {"loss": nll / total_tokens}
