"""Attention of a row whose sequences share what they begin with (`models.forest`), in plain torch on any device.

The row is cut into parts, what each sequence adds to it. A part attends to what its sequence shares with those before,
and to itself. What is handed to a kernel is copied, so that none of it keeps the whole row for the backward pass.

T = tokens of a row, S = tokens that a query may see, H = query heads, K = key/value heads, d = dimensions of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from models.attention import Attend, causal_attention
from models.forest import Forest


@dataclass(frozen=True)
class Part:
    """Tokens that a sequence adds to the row, and where those before them lie."""

    known: int
    """Tokens of the sequence in earlier parts."""
    own: int
    shared: tuple[tuple[int, int, int], ...]
    """Those parts, with the first place in each and the one behind the last."""


class ForestAttention:
    def __init__(self, forest: Forest) -> None:
        self.forest, self.parts = forest, parts_of(forest)

    @property
    def unfolded_lengths(self) -> list[int]:
        """Tokens of the whole sequences that the parts end."""
        return [part.known + part.own for part in self.parts]

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        query, key, value = (cut(self.forest, self.parts, tensor) for tensor in (query_BTHd, key_BTKd, value_BTKd))
        attended = []
        for number, part in enumerate(self.parts):
            # With fewer tokens before than of its own, asking for those again is cheaper than a mask.
            asked = whole(part, number, query) if part.known <= part.own else query[number].clone()
            found = causal_attention(asked, whole(part, number, key), whole(part, number, value))
            attended.append(found[:, -part.own :])
        return torch.cat(attended, dim=1)


class UnfoldedAttention:
    """Every sequence is attended to as a whole, by a kernel that knows only documents end to end in a row."""

    def __init__(self, folded: ForestAttention, attend: Attend) -> None:
        """`attend`: over documents of `folded.unfolded_lengths`."""
        self.forest, self.parts, self.lengths = folded.forest, folded.parts, folded.unfolded_lengths
        self.attend = attend

    def __call__(self, layer: int, query_BTHd: Tensor, key_BTKd: Tensor, value_BTKd: Tensor) -> Tensor:
        unfolded = []
        for tensor in (query_BTHd, key_BTKd, value_BTKd):
            own = cut(self.forest, self.parts, tensor)
            unfolded.append(torch.cat([whole(part, number, own) for number, part in enumerate(self.parts)], dim=1))
        attended = self.attend(layer, *unfolded).split(self.lengths, dim=1)
        return torch.cat([found[:, part.known :] for part, found in zip(self.parts, attended, strict=True)], dim=1)


def parts_of(forest: Forest) -> list[Part]:
    """In the order of the row, of which they make up the whole."""
    placed: dict[int, tuple[int, int, int]] = {}
    parts: list[Part] = []
    for path in sorted({*forest.paths}):
        shared = [placed[segment] for segment in path if segment in placed]
        new = path[len(shared) :]
        if not new:
            continue
        for segment, end in zip(new, accumulate(forest.sizes[segment] for segment in new), strict=True):
            placed[segment] = len(parts), end - forest.sizes[segment], end
        own = sum(forest.sizes[segment] for segment in new)
        parts.append(Part(forest.before[new[0]], own, tuple(shared)))
    return parts


def cut(forest: Forest, parts: Sequence[Part], row_BThd: Tensor) -> tuple[Tensor, ...]:
    """What belongs to each part. Raises ValueError for a row of another length."""
    found, expected = tuple(row_BThd.shape[:2]), (1, forest.tokens)
    if found != expected:
        raise ValueError(
            f"a batch of {found} rows x tokens does not hold segments of {forest.sizes}; expected {expected}"
        )
    return row_BThd.split([part.own for part in parts], dim=1)


def whole(part: Part, number: int, own: Sequence[Tensor]) -> Tensor:
    """A copy of what stands before the part, and of the part: number `number` of `own`."""
    before = [own[earlier][:, start:end] for earlier, start, end in part.shared]
    return torch.cat([*before, own[number]], dim=1)
