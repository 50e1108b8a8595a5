"""Which examples each step trains on: a fixed, shuffled order that the step number alone determines.

Every epoch visits all examples once in its own order; a batch may reach over into the next epoch. Nothing needs to be
saved to resume.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from typing import Protocol

import torch


class BatchPlan(Protocol):
    @property
    def steps(self) -> int: ...

    def batch(self, step: int) -> list[int]:
        """Indices of the examples of the 0-based `step`."""
        ...


class ExampleBatches:
    """A fixed number of examples a step, for some epochs (the last batch may be smaller) or for some steps."""

    def __init__(
        self, examples: int, batch_size: int, seed: int, *, epochs: int | None = None, steps: int | None = None
    ) -> None:
        _check("examples", examples)
        _check("batch_size", batch_size)
        if (epochs is None) == (steps is None):
            raise ValueError(f"epochs is {epochs} and steps is {steps}; expected exactly one of them")
        self.examples = examples
        self.batch_size = batch_size
        self.seed = seed
        self.visits = examples * epochs if epochs is not None else batch_size * (steps or 0)
        self.steps = -(-self.visits // batch_size)

    def batch(self, step: int) -> list[int]:
        start = step * self.batch_size
        return visited(range(start, min(start + self.batch_size, self.visits)), self.examples, self.seed)


class TokenBatches:
    """As many whole examples a step as fit into a number of tokens, at least one."""

    def __init__(self, lengths: Sequence[int], tokens: int, seed: int, *, steps: int) -> None:
        _check("examples", len(lengths))
        _check("tokens", tokens)
        self.examples = len(lengths)
        self.seed = seed
        self.steps = steps
        self._starts = [0]
        room = tokens
        for visit in count():
            length = lengths[visited(range(visit, visit + 1), self.examples, seed)[0]]
            if length > room and visit > self._starts[-1]:
                self._starts.append(visit)
                room = tokens
            if len(self._starts) > steps:
                break
            room -= length

    def batch(self, step: int) -> list[int]:
        return visited(range(self._starts[step], self._starts[step + 1]), self.examples, self.seed)


def visited(visits: range, examples: int, seed: int) -> list[int]:
    """The example of each visit, counted over epochs of `examples` visits."""
    return [_order(examples, seed, visit // examples)[visit % examples] for visit in visits]


@lru_cache(maxsize=4)
def _order(examples: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(examples, generator=generator).tolist()


def _check(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1")
