"""Examples of any length, packed end to end into single rows: no padding, and none sees another.

Positions start again in every example and attention stays inside it, so changing one example changes no other's loss
or gradient. A preference pair is a tree: what chosen and rejected have in common stands once, both branches attend to
it and not to each other. Only what some trained token depends on is computed: inputs end before the last trained
token, and hidden states are read only where they predict one.

    row        p0 p1 p2 c0 c1 c2 r0 r1      p: common prefix, c: rest of chosen, r: rest of rejected
    positions   0  1  2  3  4  5  3  4

T = tokens of a row, N = trained tokens of a row, H = query heads, K = key/value heads, d = dimensions of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import heapreplace
from itertools import accumulate, takewhile

import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention import Attend, PackedAttention, causal_attention


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Put items of the given lengths into bins of at most `budget`, first-fit-decreasing; returns indices by bin,
    the longest first, so that equal lengths stand together.

    Deterministic: equal lengths keep their order. An item above the budget gets a bin of its own.
    """
    if budget < 1:
        raise ValueError(f"the packing budget is {budget} tokens; expected at least 1")
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        fitting = next((i for i, free in enumerate(room) if free >= lengths[index]), None)
        if fitting is None:
            bins.append([index])
            room.append(budget - lengths[index])
        else:
            bins[fitting].append(index)
            room[fitting] -= lengths[index]
    return bins


def share_out(lengths: Sequence[int], budget: int, ranks: int) -> list[list[list[int]]]:
    """Rounds of one bin of at most `budget` for each rank, with nearly the same number of tokens in all of them.

    Every rank takes part in every round, since they exchange weights and gradients; where there are fewer items than
    ranks, some bins are empty. There are as few rounds as `pack` needs bins for, or where level ones do not hold all, a
    few more; one rank alone then keeps the bins of `pack`.
    """
    bins = pack(lengths, budget)
    count = -(-len(bins) // ranks) * ranks
    while (spread := _spread(lengths, budget, count)) is None:
        if ranks == 1:
            return [[members] for members in bins]
        count += ranks
    return [spread[start : start + ranks] for start in range(0, count, ranks)]


def _spread(lengths: Sequence[int], budget: int, count: int) -> list[list[int]] | None:
    """`count` bins, each item in the emptiest one, the longest first; None where a bin would overflow."""
    bins: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, place) for place in range(count)]
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        filled, place = heap[0]
        if filled and filled + lengths[index] > budget:
            return None
        bins[place].append(index)
        heapreplace(heap, (filled + lengths[index], place))
    return bins


@dataclass(frozen=True)
class Document:
    """Token ids and the places (ascending, each at least 1) of those that are trained; the last token is trained."""

    token_ids: tuple[int, ...]
    trained: tuple[int, ...]

    @staticmethod
    def of(token_ids: Sequence[int], trained: Sequence[bool] | None = None) -> "Document":
        """Cut after the last trained token; without a mask all are. The first token has nothing that predicts it.

        Raises ValueError where nothing is trained.
        """
        if trained is not None and len(trained) != len(token_ids):
            raise ValueError(f"{len(token_ids)} tokens have a mask of {len(trained)}; expected one flag per token")
        places = tuple(i for i in range(1, len(token_ids)) if trained is None or trained[i])
        if not places:
            raise ValueError(f"none of a document's {len(token_ids)} tokens is trained; expected at least one")
        return Document(tuple(token_ids[: places[-1] + 1]), places)

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads: all but the last token."""
        return self.token_ids[:-1]


@dataclass(frozen=True)
class Pair:
    """A preference: two answers to one prompt, with what the loss needs beside them."""

    chosen: Document
    rejected: Document
    reference_chosen: float = 0.0
    """Summed log-probability of the chosen response under the reference model."""
    reference_rejected: float = 0.0
    chosen_reward: float = 0.0
    rejected_reward: float = 0.0

    @cached_property
    def prefix(self) -> int:
        """Input tokens that both answers begin with."""
        common = takewhile(
            lambda tokens: tokens[0] == tokens[1], zip(self.chosen.inputs, self.rejected.inputs, strict=False)
        )
        return sum(1 for _ in common)

    @property
    def length(self) -> int:
        """Tokens that the pair takes in a row."""
        return len(self.chosen.inputs) + len(self.rejected.inputs) - self.prefix


@dataclass(frozen=True)
class Rated:
    """A conversation that ends with the token at which its attributes are read; a missing label is NaN."""

    token_ids: tuple[int, ...]
    labels: tuple[float, ...]


@dataclass(frozen=True)
class PackedRow:
    """One row for the decoder, and where its trained tokens are read."""

    token_ids_1T: Tensor
    positions_1T: Tensor
    attend: Attend
    sources_N: Tensor
    """Places in the row of the hidden states that are read, sequence by sequence."""
    targets_N: Tensor
    """The trained token that each of them predicts; none for rated conversations."""
    counts: list[int]
    """Places read of each sequence; a pair's chosen one stands before its rejected one."""
    shapes: list[tuple[int, int, int]]
    """What stands in the row, one after another: tokens of the prefix, of prefix + first branch, and of all of it. A
    document is all prefix."""

    def filled(self, multiple: int) -> "PackedRow":
        """The row with tokens at its end, which nothing else sees, up to a multiple of `multiple` tokens."""
        added = -self.token_ids_1T.shape[1] % multiple
        if not added:
            return self
        shapes = [*self.shapes, (added, added, added)]
        return replace(
            self,
            token_ids_1T=F.pad(self.token_ids_1T, (0, added)),
            positions_1T=torch.cat([self.positions_1T, torch.arange(added)[None]], dim=1),
            attend=attention_over(shapes),
            shapes=shapes,
        )


def attention_over(shapes: Sequence[tuple[int, int, int]]) -> Attend:
    """Attention of a row that holds documents, or pairs."""
    if all(prefix == length for prefix, _, length in shapes):
        return PackedAttention([length for _, _, length in shapes])
    return PairedAttention(shapes)


def pack_documents(documents: Sequence[Document]) -> PackedRow:
    lengths = [len(document.inputs) for document in documents]
    attend = PackedAttention(lengths)
    starts = [end - length for end, length in zip(accumulate(lengths), lengths, strict=True)]
    return PackedRow(
        token_ids_1T=torch.tensor([[token for document in documents for token in document.inputs]]),
        positions_1T=attend.positions_BT(),
        attend=attend,
        sources_N=torch.tensor([s + t - 1 for s, d in zip(starts, documents, strict=True) for t in d.trained]),
        targets_N=torch.tensor([document.token_ids[t] for document in documents for t in document.trained]),
        counts=[len(document.trained) for document in documents],
        shapes=[(length, length, length) for length in lengths],
    )


def pack_rated(rated: Sequence[Rated]) -> PackedRow:
    lengths = [len(example.token_ids) for example in rated]
    attend = PackedAttention(lengths)
    return PackedRow(
        token_ids_1T=torch.tensor([[token for example in rated for token in example.token_ids]]),
        positions_1T=attend.positions_BT(),
        attend=attend,
        sources_N=torch.tensor([end - 1 for end in accumulate(lengths)]),
        targets_N=torch.empty(0, dtype=torch.long),
        counts=[1] * len(rated),
        shapes=[(length, length, length) for length in lengths],
    )


def pack_pairs(pairs: Sequence[Pair]) -> PackedRow:
    token_ids: list[int] = []
    positions: list[int] = []
    sources: list[int] = []
    for pair in pairs:
        start, prefix, chosen = len(token_ids), pair.prefix, len(pair.chosen.inputs)
        token_ids += pair.chosen.inputs + pair.rejected.inputs[prefix:]
        positions += [*range(chosen), *range(prefix, len(pair.rejected.inputs))]
        sources += [start + place - 1 for place in pair.chosen.trained]
        # Past the prefix, the rejected branch stands where the chosen one ends.
        sources += [start + p - 1 + (chosen - prefix if p > prefix else 0) for p in pair.rejected.trained]
    sequences = [sequence for pair in pairs for sequence in (pair.chosen, pair.rejected)]
    shapes = [(p.prefix, len(p.chosen.inputs), p.length) for p in pairs]
    return PackedRow(
        token_ids_1T=torch.tensor([token_ids]),
        positions_1T=torch.tensor([positions]),
        attend=PairedAttention(shapes),
        sources_N=torch.tensor(sources),
        targets_N=torch.tensor([sequence.token_ids[t] for sequence in sequences for t in sequence.trained]),
        counts=[len(sequence.trained) for sequence in sequences],
        shapes=shapes,
    )


class PairedAttention:
    """One row holds several preference pairs; a pair's rejected branch sees the common prefix and itself."""

    def __init__(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        """`shapes`: for each pair, tokens of the prefix, of prefix + chosen branch, and of all of it."""
        self.shapes = list(shapes)

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        found, expected = tuple(query_BTHd.shape[:2]), (1, sum(length for _, _, length in self.shapes))
        if found != expected:
            raise ValueError(
                f"a batch of {found} rows x tokens does not hold pairs of {self.shapes}; expected {expected}"
            )
        lengths = [length for _, _, length in self.shapes]
        trees = (tensor.split(lengths, dim=1) for tensor in (query_BTHd, key_BTKd, value_BTKd))
        attended = [
            part
            for (prefix, chosen, length), tree in zip(self.shapes, zip(*trees, strict=True), strict=True)
            for part in _attend_pair(prefix, chosen, length, tree)
        ]
        return torch.cat(attended, dim=1)


def _attend_pair(prefix: int, chosen: int, length: int, tree: tuple[Tensor, ...]) -> list[Tensor]:
    """What the prefix and chosen branch attend to, then the rejected branch (which may be empty)."""
    attended = [causal_attention(*(tensor[:, :chosen] for tensor in tree))]
    if length > chosen:
        query_BTHd, key_BTKd, value_BTKd = tree
        seen_KV = [torch.cat([t[:, :prefix], t[:, chosen:]], dim=1) for t in (key_BTKd, value_BTKd)]
        attended.append(_lower_right_attention(query_BTHd[:, chosen:], seen_KV[0], seen_KV[1]))
    return attended


def _lower_right_attention(query_BTHd: Tensor, key_BSKd: Tensor, value_BSKd: Tensor) -> Tensor:
    """The last T of S tokens attend causally to all S."""
    queries, keys = query_BTHd.shape[1], key_BSKd.shape[1]
    visible_TS = torch.ones(queries, keys, dtype=torch.bool, device=query_BTHd.device).tril(keys - queries)
    attended_BHTd = F.scaled_dot_product_attention(
        query_BTHd.transpose(1, 2),
        key_BSKd.transpose(1, 2),
        value_BSKd.transpose(1, 2),
        attn_mask=visible_TS,
        enable_gqa=query_BTHd.shape[2] != key_BSKd.shape[2],
    )
    return attended_BHTd.transpose(1, 2)
