"""The vocabulary of a loss, whole or split over the processes of a tensor-parallel group.

Each process holds some of the unembedding's rows and makes the logits of those only; what a token's log-probability
needs of the others is two numbers a token (paper, section 2.4: tensor parallelism of 8).

N = tokens, C = tokens of a chunk, D = hidden size, V = rows of the unembedding here.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard


@dataclass(frozen=True)
class Vocabulary:
    """Rows `start` and on are here; the others lie with the rest of `group`. The whole vocabulary has no group."""

    start: int = 0
    group: dist.ProcessGroup | None = None
    rows: int = 0
    """Of the largest part: what all must cut their work by, to meet each other equally often; 0 for the whole."""

    def whole(self, values: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
        """`values` of all parts together, in place."""
        if self.group is not None:
            dist.all_reduce(values, operation, group=self.group)
        return values

    def exponentiate(self, logits_CV: Tensor) -> tuple[Tensor, Tensor]:
        """Make exp(logit - the token's largest) of logits, in place; their sum and logsumexp over the whole vocabulary,
        [C] each."""
        largest_C = self.whole(logits_CV.amax(-1), dist.ReduceOp.MAX)
        sums_C = self.whole(logits_CV.sub_(largest_C[:, None]).exp_().sum(-1))
        return sums_C, largest_C + sums_C.log()

    def picked(self, logits_CV: Tensor, tokens_C: Tensor) -> Tensor:
        """The given tokens' logits, [C]."""
        places_C1, here_C1 = self._places(logits_CV, tokens_C)
        return self.whole((logits_CV.gather(1, places_C1) * here_C1)[:, 0])

    def add(self, slopes_CV: Tensor, tokens_C: Tensor, amounts: Tensor | float) -> Tensor:
        """`slopes_CV` with something added at each token's place, in place; `amounts`: one for all, or [C, 1]."""
        places_C1, here_C1 = self._places(slopes_CV, tokens_C)
        return slopes_CV.scatter_add_(1, places_C1, here_C1 * amounts)

    def _places(self, logits_CV: Tensor, tokens_C: Tensor) -> tuple[Tensor, Tensor]:
        """Columns of the tokens, and 1 where the token is here (else 0, at any column)."""
        places_C1 = (tokens_C - self.start)[:, None]
        if self.group is None:
            return places_C1, torch.ones_like(logits_CV[:, :1])
        here_C1 = (places_C1 >= 0) & (places_C1 < logits_CV.shape[1])
        return places_C1.where(here_C1, 0), here_C1.to(logits_CV.dtype)


WHOLE = Vocabulary()


def local_part(unembedding_VD: Tensor) -> tuple[Tensor, Vocabulary]:
    """The rows that are here, differentiable, and which they are. Raises ValueError for any other way of splitting."""
    if not isinstance(unembedding_VD, DTensor):
        return unembedding_VD, WHOLE
    mesh, placements = unembedding_VD.device_mesh, unembedding_VD.placements
    if placements != (Shard(0),):
        raise ValueError(f"the unembedding is split as {placements}; expected by rows over one dimension")
    rows, part = unembedding_VD.shape[0], -(-unembedding_VD.shape[0] // mesh.size())
    return unembedding_VD.to_local(), Vocabulary(min(rows, part * mesh.get_local_rank()), mesh.get_group(), part)
