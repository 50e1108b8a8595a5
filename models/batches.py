"""Which examples each step trains on: a fixed, shuffled order that the step number alone determines.

Every epoch visits all examples once in its own order; a batch may reach over into the next epoch. Nothing needs to be
saved to resume.
"""

from dataclasses import dataclass
from functools import lru_cache
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


@dataclass(frozen=True)
class BatchRamp:
    """How many tokens a step may have, by the tokens that were trained before it (paper, section 2.4: three sizes)."""

    sizes: tuple[tuple[int, int], ...]
    """(tokens trained before, tokens of a step), rising from 0 tokens before."""

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.sizes]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError(f"the batch sizes begin at {starts} tokens; expected 0 and then rising numbers")
        for _, size in self.sizes:
            _check("tokens", size)

    def tokens(self, trained: int) -> int:
        return next(size for start, size in reversed(self.sizes) if start <= trained)


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
