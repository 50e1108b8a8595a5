"""Splits rows into what is trained on and what training is judged by; rows of one prompt stay together."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from infra.errors import EmptyDataset

Item = TypeVar("Item")


def hold_out(
    items: Sequence[Item], prompt_of: Callable[[Item], str], fraction: float, seed: int
) -> tuple[list[Item], list[Item]]:
    """Training and validation items, in their order: `fraction` of the prompts, at least one, or none for 0.

    Raises EmptyDataset where no prompt is left to train on.
    """
    if not fraction:
        return [*items], []
    prompts = sorted({*map(prompt_of, items)}, key=lambda p: hashlib.sha256(f"{seed}/{p}".encode()).digest())
    held_out = set(prompts[: max(1, round(fraction * len(prompts)))])
    if len(held_out) == len(prompts):
        raise EmptyDataset(
            f"the rows have {len(prompts)} prompts, {len(held_out)} of them for validation",
            "give rows of at least two prompts, or lower validation_fraction",
        )
    sides: tuple[list[Item], list[Item]] = ([], [])
    for item in items:
        sides[prompt_of(item) in held_out].append(item)
    return sides


def hold_out_keyed(keyed: Sequence[tuple[str, Item]], fraction: float, seed: int) -> tuple[list[Item], list[Item]]:
    """As `hold_out`, of items that come with their prompts."""
    training, validation = hold_out(keyed, lambda pair: pair[0], fraction, seed)
    return [item for _, item in training], [item for _, item in validation]
