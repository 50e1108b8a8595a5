"""How answers are to look: a family's plan over task × answer format, and the sentence that asks for a format.

The plan of 20 closed questions, with the default weights: 5 of each task, about half of them to be answered in a
paragraph, "similar" always with a text. Formats, tasks and wordings lie in answer_formats.yaml.
"""

import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import yaml

from tasks.prompts.sentences import sentences

_DATA = yaml.safe_load((Path(__file__).parent / "answer_formats.yaml").read_text(encoding="utf-8"))
FORMATS: Mapping[str, dict[str, Any]] = _DATA["formats"]
"""By name: `kind`, `begins`, `shots` and `wordings`."""
TASKS: Mapping[str, dict[str, list[str]]] = _DATA["tasks"]
"""Formats that can be asked for, by family and task; a family that is not here decides for itself."""

Cell = tuple[str, str]
"""Task and answer format."""
Kind = TypeVar("Kind", str, Cell)
T = TypeVar("T")


def shares(family: str, weights: Mapping[str, float]) -> dict[Cell, float]:
    """Each cell's part of the family's prompts, 1 in all; empty for a family that decides for itself.

    A task that can have none of the weighted formats has its first one.
    """
    tasks = TASKS.get(family, {})
    parts: dict[Cell, float] = {}
    for task, allowed in tasks.items():
        known = {name: weights.get(name, 0.0) for name in allowed}
        total = sum(known.values())
        known = known if total else {allowed[0]: 1.0}
        parts |= {(task, name): weight / (total or 1.0) / len(tasks) for name, weight in known.items() if weight}
    return parts


def plan(family: str, count: int, weights: Mapping[str, float], rng: Random) -> list[Cell]:
    """`count` cells in a seeded order, each as often as its share says, rounded up or down.

    Which way is drawn so that a small cell has its chance in a small plan (systematic sampling).
    """
    parts = shares(family, weights)
    cells, ends = [*parts], [*accumulate(parts.values())]
    start = rng.random()
    points = [(number + start) / count for number in range(count)]
    planned = [cells[min(bisect(ends, point), len(cells) - 1)] for point in points]
    rng.shuffle(planned)
    return planned


def as_planned(found: Iterable[tuple[Kind, T]], planned: Sequence[Kind]) -> list[T]:
    """As many things of each kind as were planned; what one lacks, others fill up."""
    left = Counter(planned)
    chosen, spare = [], []
    for kind, thing in found:
        (chosen if left[kind] > 0 else spare).append(thing)
        left[kind] -= 1
    return [*chosen, *spare][: len(planned)]


def begins(name: str) -> str:
    """The regular expression of how a question of this format begins, "" where any will do."""
    return "|".join(map(re.escape, FORMATS[name].get("begins", [])))


def suits(text: str, name: str) -> bool:
    """Whether a sentence of the text asks what this format can answer: "yes_no" needs "Is …?", not "Why …?"."""
    wanted = begins(name)
    asking = [sentence for sentence in sentences(text) if sentence.endswith("?")]
    return not wanted or (bool(asking) and re.match(rf"(?:{wanted})\b", asking[-1]) is not None)


def with_format(text: str, name: str, rng: Random) -> str:
    """The text and one of the format's sentences."""
    return f"{text} {rng.choice(FORMATS[name]['wordings'])}".strip()
