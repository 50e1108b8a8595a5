"""Which examples each step trains on: a fixed, shuffled order that the step number alone determines.

Every epoch visits all examples once in its own order; a batch may reach over into the next epoch. Nothing needs to be
saved to resume.
"""

from collections.abc import Hashable, Iterable, Sequence
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
        self,
        examples: int,
        batch_size: int,
        seed: int,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        together: Sequence[Hashable] | None = None,
    ) -> None:
        """`together`: a key for each example; those of one key follow each other, and mostly come into one batch."""
        _check("examples", examples)
        _check("batch_size", batch_size)
        if together is not None and len(together) != examples:
            raise ValueError(f"{examples} examples have {len(together)} keys; expected one each")
        if (epochs is None) == (steps is None):
            raise ValueError(f"epochs is {epochs} and steps is {steps}; expected exactly one of them")
        self.examples = examples
        self.batch_size = batch_size
        self.seed = seed
        self.visits = examples * epochs if epochs is not None else batch_size * (steps or 0)
        self.steps = -(-self.visits // batch_size)
        self.groups = _grouped(range(examples) if together is None else together)
        self._epoch = lru_cache(maxsize=2)(self._order)

    def batch(self, step: int) -> list[int]:
        start = step * self.batch_size
        visits = range(start, min(start + self.batch_size, self.visits))
        return [self._epoch(visit // self.examples)[visit % self.examples] for visit in visits]

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(len(self.groups), generator=generator).tolist()
        return [example for group in order for example in self.groups[group]]


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


def _grouped(keys: Iterable[Hashable]) -> list[list[int]]:
    """Indices of each key, in the order of the first ones."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return [*groups.values()]


def _check(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1")
