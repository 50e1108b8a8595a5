"""Which pieces each step of pretraining reads: several sources by weight, each shuffled anew every epoch.

    step 8    web    visits 5120 … 5689        code   visits 1101 … 1222        speech   visits 1098 … 1219
              └ of its own order: epoch 0, places 5120 … 5689                            └ epoch 3, places 12 … 133

A step has a number of tokens, which may grow on the way (`BatchRamp`). Each source gets whole pieces up to its share of
all tokens so far, this step's included; what room is left goes to the source that is furthest behind, until its next
piece does not fit. So the tokens taken follow the weights to within a piece or so after every step.

The whole plan is fixed by lengths, weights and seed before training starts and holds a few numbers a step. A step's
batch depends on nothing else, so a resumed run, also one with another number of processes, reads the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from models.batches import BatchRamp


@dataclass(frozen=True)
class Mixture:
    """A distribution over sources, from a step on."""

    weights: tuple[float, ...]
    """Share of each source against the others; 0 leaves it out."""
    from_step: int = 0


@dataclass(frozen=True)
class SourceUse:
    """What was read of one source."""

    tokens: int
    epochs: float


class Shuffled:
    """The pieces of one source, in an order of its own in each epoch; a visit is a place in that endless row."""

    def __init__(self, pieces: NDArray[np.int64], lengths: NDArray[np.int64], seed: int) -> None:
        self.pieces, self.lengths, self.seed = pieces, lengths, seed
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def __len__(self) -> int:
        return len(self.pieces)

    def _epoch(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places in the order of the epoch, and the tokens up to and including each."""
        generator = torch.Generator().manual_seed((self.seed + number) % 2**63)
        order = torch.randperm(len(self), generator=generator).numpy()
        return order, np.cumsum(self.lengths[order])

    def fitting(self, visit: int, room: int) -> tuple[int, int]:
        """How many pieces from `visit` on fit into `room` tokens without leaving the epoch, and their tokens."""
        place = visit % len(self)
        ends = self.epoch(visit // len(self))[1]
        before = int(ends[place - 1]) if place else 0
        end = int(np.searchsorted(ends, before + room, side="right"))
        return (end - place, int(ends[end - 1]) - before) if end > place else (0, 0)

    def length(self, visit: int) -> int:
        order, _ = self.epoch(visit // len(self))
        return int(self.lengths[order[visit % len(self)]])

    def visited(self, start: int, end: int) -> list[int]:
        """The pieces of these visits."""
        found: list[int] = []
        while start < end:
            number, place = divmod(start, len(self))
            taken = self.epoch(number)[0][place : place + end - start]
            found += self.pieces[taken].tolist()
            start += len(taken)
        return found


class MixedBatches:
    """A BatchPlan over the pieces of several sources."""

    def __init__(
        self,
        lengths: NDArray[np.int32],
        source_of: NDArray[np.int32],
        mixtures: Sequence[Mixture],
        ramp: BatchRamp,
        seed: int,
        *,
        steps: int,
    ) -> None:
        """`lengths` and `source_of` of every piece; the first mixture begins with step 0.

        Raises ValueError for mixtures that cannot be followed.
        """
        self.steps = steps
        self.ramp = ramp
        self.mixtures = mixtures
        self._check(lengths, source_of)
        self.sources = [
            # The generator looks at 32 bits of its seed; in those, sources are spread far apart.
            Shuffled(pieces, lengths[pieces].astype(np.int64), seed * 1_000_003 + number * 2_654_435_761)
            for number in range(len(mixtures[0].weights))
            for pieces in [np.flatnonzero(source_of == number)]
        ]
        self.visits: NDArray[np.int64] = np.zeros((steps + 1, len(self.sources)), np.int64)
        """Pieces taken of each source before each step, and after the last."""
        self.tokens = np.zeros_like(self.visits)
        for step in range(steps):
            self._fill(step)

    def batch(self, step: int) -> list[int]:
        before, after = self.visits[step], self.visits[step + 1]
        spans = zip(self.sources, before.tolist(), after.tolist(), strict=True)
        return [piece for source, start, end in spans for piece in source.visited(start, end)]

    def used(self) -> list[SourceUse]:
        """What the whole plan reads of each source."""
        totals = zip(self.sources, self.visits[-1].tolist(), self.tokens[-1].tolist(), strict=True)
        return [SourceUse(tokens, visits / max(1, len(source))) for source, visits, tokens in totals]

    def _fill(self, step: int) -> None:
        """Choose the pieces of a step."""
        mixture = max((one for one in self.mixtures if one.from_step <= step), key=lambda one: one.from_step)
        room = self.ramp.tokens(int(self.tokens[step].sum()))
        since = (self.tokens[step] - self.tokens[mixture.from_step]).tolist()
        due = (sum(since) + room) / sum(mixture.weights)
        behind = {source: weight * due - since[source] for source, weight in enumerate(mixture.weights) if weight > 0}
        fill = _Fill(self.sources, self.visits[step].tolist(), behind, room)
        for source in sorted(behind, key=lambda source: -behind[source]):
            fill.share(source)
        fill.rest()
        self.visits[step + 1] = fill.visits
        self.tokens[step + 1] = self.tokens[step] + fill.taken

    def _check(self, lengths: NDArray[np.int32], source_of: NDArray[np.int32]) -> None:
        counts = np.bincount(source_of, minlength=len(self.mixtures[0].weights)).tolist()
        for mixture in self.mixtures:
            if len(mixture.weights) != len(counts) or min(mixture.weights) < 0 or not sum(mixture.weights) > 0:
                raise ValueError(
                    f"weights {mixture.weights} for {len(counts)} sources; expected one each, none below 0, one above"
                )
            empty = [source for source, weight in enumerate(mixture.weights) if weight and not counts[source]]
            if empty:
                raise ValueError(f"the sources {empty} have a weight and no pieces; expected pieces, or weight 0")
        starts = [mixture.from_step for mixture in self.mixtures]
        if starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError(f"mixtures begin at the steps {starts}; expected 0 and then rising ones")
        if len(lengths) != len(source_of) or self.steps < 1:
            raise ValueError(
                f"{len(lengths)} lengths, {len(source_of)} sources and {self.steps} steps; expected one source for "
                "each length and at least one step"
            )


class _Fill:
    """One step as it fills up. `behind`: tokens that each weighted source still lacks for its share."""

    def __init__(self, sources: Sequence[Shuffled], visits: list[int], behind: dict[int, float], room: int) -> None:
        self.sources, self.visits, self.behind, self.room = sources, visits, behind, room
        self.taken = [0] * len(sources)

    def share(self, source: int) -> None:
        """What the source lacks, in whole pieces; on into the next epoch where one ends."""
        at_end = True
        while at_end:
            room = int(max(0, min(self.room, self.behind[source])))
            count, tokens = self.sources[source].fitting(self.visits[source], room)
            self._take(source, count, tokens)
            at_end = count > 0 and self.visits[source] % len(self.sources[source]) == 0

    def rest(self) -> None:
        """What is left of the step, to the source that is furthest behind; a step has at least one piece."""
        while True:
            source = max(self.behind, key=lambda source: self.behind[source])
            length = self.sources[source].length(self.visits[source])
            if length > self.room and any(self.taken):
                return
            self._take(source, 1, length)

    def _take(self, source: int, count: int, tokens: int) -> None:
        self.visits[source] += count
        self.taken[source] += tokens
        self.behind[source] -= tokens
        self.room -= tokens
