"""Colonies of coding tasks: who lives, who is drawn as a parent, and what of it outlives a killed job."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

from infra.output import Output

FILE = "colonies.json"


@dataclass(frozen=True)
class Member:
    """A dialogue row of one task and its solution, with what its selection needs."""

    row: dict[str, Any]
    fitness: float | None = None
    """The judge's log-odds of a pass; None for a seed, which nobody judges."""
    mass: float = 0.0
    """Probability that the judge gave to Yes and No together."""
    colony: int = -1
    generation: int = 0
    """0 for seeds, 1 for their children."""

    @property
    def id(self) -> str:
        return self.row["id"]

    @property
    def task(self) -> str:
        return self.row["messages"][0]["content"]

    @property
    def answer(self) -> str:
        return self.row["messages"][1]["content"]


@dataclass
class Colonies:
    """Every colony begins with all seeds; `born` are each colony's survivors in the order of their birth."""

    seeds: Sequence[Member]
    born: list[list[Member]]
    counts: Counter[str] = field(default_factory=Counter)
    rejected: list[dict[str, str]] = field(default_factory=list)
    generation: int = 0
    """How many are done."""

    def pool(self, colony: int) -> list[Member]:
        return [*self.seeds, *self.born[colony]]

    def save(self, output: Output) -> None:
        """A generation of all colonies is what a killed job may lose."""
        state = {
            "born": [[vars(member) for member in members] for members in self.born],
            "counts": dict(self.counts),
            "rejected": self.rejected,
        }
        output.save_checkpoint(self.generation, lambda folder: _write(folder, state))

    @classmethod
    def resumed(cls, output: Output, seeds: Sequence[Member], colonies: int) -> "Colonies":
        """As an earlier attempt left them, or new ones."""
        found = output.last_checkpoint()
        if found is None:
            return cls(seeds, [[] for _ in range(colonies)])
        generation, folder = found
        state = json.loads((folder / FILE).read_text(encoding="utf-8"))
        born = [[Member(**values) for values in members] for members in state["born"]]
        return cls(seeds, born, Counter(state["counts"]), state["rejected"], generation)


def draw_parents(pool: Sequence[Member], sizes: Sequence[int], rng: Random) -> list[list[Member]]:
    """That many different parents for each child. All of the pool have their turn before one comes again."""
    deal = cycle(rng.sample(pool, len(pool)))
    return [list(islice(deal, min(size, len(pool)))) for size in sizes]


def fittest(members: Sequence[Member], share: float) -> list[Member]:
    """The best part, at least one of any, in the order of their birth."""
    ranked = sorted(members, key=lambda member: (-(member.fitness or 0.0), member.id))
    chosen = {id(member) for member in ranked[: max(1, round(share * len(members)))]}
    return [member for member in members if id(member) in chosen]


def register(colonies: Colonies, kept: Sequence[Member]) -> list[dict[str, Any]]:
    """Everyone who could be a parent: a kept row's ancestors are known also where they were dropped."""
    chosen = {id(member) for member in kept}
    return [
        {"id": member.id, "parents": member.row["parents"], "colony": member.colony, "generation": member.generation,
         "operation": member.row["source"].rpartition("/")[2], "log_odds": member.fitness, "task": member.task,
         "kept": id(member) in chosen}
        for born in colonies.born for member in born
    ]  # fmt: skip


def measure(colonies: Colonies, kept: Sequence[Member]) -> dict[str, float]:
    """What survived, how the judge saw it by generation, and whether it answered with one of its two words at all."""
    everyone = [member for born in colonies.born for member in born]
    found = {"generated": float(len(kept)), "survivors": float(len(everyone))}
    if everyone:
        found["verdict_mass"] = mean(member.mass for member in everyone)
    for generation in range(1, colonies.generation + 1):
        odds = [member.fitness or 0.0 for member in everyone if member.generation == generation]
        if odds:
            found[f"log_odds/generation_{generation}"] = mean(odds)
    if kept:
        found["log_odds/kept"] = mean(member.fitness or 0.0 for member in kept)
    return found


def _write(folder: Path, state: dict[str, Any]) -> None:
    (folder / FILE).write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
