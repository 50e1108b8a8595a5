"""Which examples come into which packed row, and which rows the data-parallel processes take at the same time."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace

from models.forest import LEAST_SHARED
from models.packing import Packable, grown

MOST_UNFOLDED = 2
"""Tokens of a row that attention may come to hold where a prompt is copied for each answer, over the row's budget."""


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


def deal(examples: Sequence[Sequence[Packable]], budget: int, ranks: int) -> list[list[list[int]]]:
    """Rounds of one row for each rank, as indices of examples: `share_out` of examples, each with its sequences.

    Examples of one prompt come into one row as far as they fit, without leaving a rank idle for it.
    """
    groups = _of_one_prompt(examples)
    total = sum(group[0].tokens + sum(one.tokens - one.prompt for one in group[1:]) for group in groups)
    room = min(budget, -(-total // ranks))
    bundles = [bundle for group in groups for bundle in _bundled(group, room, MOST_UNFOLDED * budget)]
    rounds = share_out([bundle.tokens for bundle in bundles], budget, ranks)
    return [[[index for item in row for index in bundles[item].members] for row in rows] for rows in rounds]


@dataclass(frozen=True)
class _Bundle:
    """Examples of one prompt."""

    members: list[int]
    prompt: int
    """Its tokens."""
    tokens: int
    """In a row, the prompt once."""
    unfolded: int
    """With all that attention may copy: every sequence as a whole."""


def _of_one_prompt(examples: Sequence[Sequence[Packable]]) -> list[list[_Bundle]]:
    """Each example as a bundle of its own, beside those that have its prompt."""
    groups: dict[tuple[int, ...] | int, list[_Bundle]] = {}
    for index, sequences in enumerate(examples):
        prompt = sequences[0].prompt
        unfolded = sum(len(sequence.inputs) for sequence in sequences)
        alone = _Bundle([index], len(prompt), grown(sequences).tokens, unfolded)
        groups.setdefault(prompt if len(prompt) >= LEAST_SHARED else index, []).append(alone)
    return [*groups.values()]


def _bundled(group: Sequence[_Bundle], room: int, most_unfolded: int) -> list[_Bundle]:
    """Examples of one prompt in their order, as many to a bundle as have room for themselves and attention's copies."""
    bundles = [group[0]]
    for one in group[1:]:
        last = bundles[-1]
        tokens, unfolded = last.tokens + one.tokens - one.prompt, last.unfolded + one.unfolded
        if tokens <= room and unfolded <= most_unfolded:
            bundles[-1] = _Bundle([*last.members, *one.members], one.prompt, tokens, unfolded)
        else:
            bundles.append(one)
    return bundles
