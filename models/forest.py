"""Sequences that begin alike, as trees: what they have in common stands once in a row, and all that follows sees it.

    sequences   p0 p1 p2 c0 c1     a prompt with one answer     row         p0 p1 p2 c0 c1 r0
                p0 p1 p2 r0        and with another             positions    0  1  2  3  4  3
                                                                segments    (0      )(1  )(2)     paths (0, 1), (0, 2)

A token sees its own path up to itself: what it would see if its sequence stood alone. A segment comes before all that
continue it, and these stand together.

T = tokens of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, pairwise, takewhile

import torch
from torch import Tensor

from models.flops import causal_pairs

LEAST_SHARED = 16
"""Tokens that are worth a segment of their own: fewer cost more in the handling than reading them again."""


@dataclass(frozen=True)
class Forest:
    sizes: tuple[int, ...]
    """Tokens of each segment, in the order of the row."""
    paths: tuple[tuple[int, ...], ...]
    """The segments that make up each sequence."""

    @staticmethod
    def of(sequences: Sequence[tuple[int, ...]], least: int = LEAST_SHARED) -> "Forest":
        """Deterministic; trees stand in the order of their first sequences.

        Raises ValueError without a sequence, or for an empty one.
        """
        if not sequences or not all(map(len, sequences)):
            raise ValueError(
                f"sequences have {[*map(len, sequences)]} tokens; expected at least one sequence and token"
            )
        ranks = {member: rank for rank, member in enumerate(sorted(range(len(sequences)), key=sequences.__getitem__))}
        sizes: list[int] = []
        paths: list[tuple[int, ...]] = [()] * len(sequences)
        # Members agree on their first `agreed` tokens; those before `start` are in segments, on `path`.
        growing: list[tuple[list[int], int, int, tuple[int, ...]]] = [([*range(len(sequences))], 0, 0, ())]
        while growing:
            members, start, agreed, path = growing.pop()
            first, last = (sequences[pick(members, key=ranks.__getitem__)] for pick in (min, max))
            agreed += _common(first[agreed:], last[agreed:])
            if agreed > start and (len(members) == 1 or agreed - start >= least):
                path = (*path, len(sizes))
                sizes.append(agreed - start)
                start = agreed
            following: dict[int, list[int]] = {}
            for member in members:
                sequence = sequences[member]
                if len(sequence) > agreed:
                    following.setdefault(sequence[agreed], []).append(member)
                elif start == agreed:
                    paths[member] = path
                else:
                    paths[member] = (*path, len(sizes))
                    sizes.append(agreed - start)
            growing += [(some, start, agreed, path) for some in reversed(following.values())]
        return Forest(tuple(sizes), tuple(paths))

    @property
    def tokens(self) -> int:
        return sum(self.sizes)

    @property
    def apart(self) -> bool:
        """Whether nothing is shared."""
        return len({*self.paths}) == len(self.paths) and all(len(path) == 1 for path in self.paths)

    @cached_property
    def starts(self) -> list[int]:
        """Where each segment begins in the row."""
        return [0, *accumulate(self.sizes)][:-1]

    @cached_property
    def before(self) -> list[int]:
        """Tokens of each segment's sequence before it."""
        found = [0] * len(self.sizes)
        for path in self.paths:
            for earlier, later in pairwise(path):
                found[later] = found[earlier] + self.sizes[earlier]
        return found

    @property
    def pairs(self) -> int:
        """Tokens with those that they see, themselves included."""
        spans = zip(self.sizes, self.before, strict=True)
        return sum(size * before + causal_pairs(size) for size, before in spans)

    def row(self, sequences: Sequence[Sequence[int]]) -> list[int]:
        """The tokens of the sequences that it was grown of, each once."""
        segments: list[Sequence[int]] = [()] * len(self.sizes)
        for path, sequence in zip(self.paths, sequences, strict=True):
            for segment in path:
                segments[segment] = sequence[self.before[segment] : self.before[segment] + self.sizes[segment]]
        return [*chain.from_iterable(segments)]

    def places(self, sequence: int) -> list[int]:
        """Where the tokens of a sequence stand in the row."""
        spans = (
            range(self.starts[segment], self.starts[segment] + self.sizes[segment]) for segment in self.paths[sequence]
        )
        return [*chain.from_iterable(spans)]

    def positions_T(self) -> Tensor:
        """Of each token in its sequence."""
        spans = zip(self.before, self.sizes, strict=True)
        return torch.cat([torch.arange(before, before + size) for before, size in spans])

    def ends_T(self) -> Tensor:
        """For each token, where the last token that may see it ends in the row."""
        ends = [start + size for start, size in zip(self.starts, self.sizes, strict=True)]
        for path in self.paths:
            for segment in path:
                ends[segment] = max(ends[segment], ends[path[-1]])
        return torch.tensor(ends).repeat_interleave(torch.tensor(self.sizes))

    def with_filler(self, tokens: int) -> "Forest":
        """With a sequence of its own at the end."""
        return Forest((*self.sizes, tokens), (*self.paths, (len(self.sizes),)))


def _common(first: Sequence[int], last: Sequence[int]) -> int:
    """Tokens that both begin with; of several in lexical order: that all begin with."""
    if first == last:
        return len(first)
    return sum(1 for _ in takewhile(lambda tokens: tokens[0] == tokens[1], zip(first, last, strict=False)))
