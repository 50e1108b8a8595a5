"""Evaluation items of the procedural world: reserved questions, which nothing that trains may use."""

import random
from typing import Any

from infra.errors import InputError
from infra.output import Outcome, Output
from tasks.configs.world import WorldItemsConfig
from tasks.judges.ground_truth import verifier
from tasks.rows import ITEM, make_row, row_seed
from tasks.world.grammar import FAMILIES, NAMES, OPEN, THINGS, WORDS, Question, draw

OWN_WORDS = frozenset((*NAMES, *THINGS, *WORDS))
"""Words that a question draws, digits aside."""
TRIES = 400
"""Draws after which a family has no more questions to give."""


def run(config: WorldItemsConfig, output: Output) -> Outcome:
    """Families take turns until both halves are full; no question is in both."""
    rng = random.Random(row_seed(output.fingerprint, "items"))
    seen: set[str] = set()
    rows = []
    for half, truth in (("dev", config.dev), ("gate", config.gate)):
        rows += [item_row(question, half) for question in collect(rng, seen, truth, closed_families())]
        rows += [item_row(question, half) for question in collect(rng, seen, config.open, [OPEN])]
    output.write_shard(0, rows, ITEM)
    return Outcome(rows=len(rows), counts={"kept": len(rows)}, result={"licences": ["CC0-1.0"]})


def closed_families() -> list[str]:
    """Families whose answers can be checked."""
    return [family for family in FAMILIES if family != OPEN]


def collect(rng: random.Random, seen: set[str], wanted: int, families: list[str]) -> list[Question]:
    """`wanted` new questions; a family that runs dry leaves its place to the others."""
    found: list[Question] = []
    open_families = list(families)
    while len(found) < wanted and open_families:
        for family in list(open_families):
            if len(found) == wanted:
                break
            drawn = (draw(rng, family, reserved=True) for _ in range(TRIES))
            fresh = next((question for question in drawn if question.text not in seen), None)
            if fresh is None:
                open_families.remove(family)
            else:
                seen.add(fresh.text)
                found.append(fresh)
    if len(found) < wanted:
        raise InputError(f"the world has {len(found)} reserved questions for {wanted} items", "ask for fewer items")
    return found


def item_row(question: Question, half: str) -> dict[str, Any]:
    """One item; its key is the family with the question's first own word, the cluster of the bootstrap."""
    check = None if question.answer is None else verifier("world", {"answer": question.answer})
    values = {
        "family": "open" if question.answer is None else question.family, "key": key_of(question), "half": half,
        "messages": question.turns(), "verifier": check, "source": "world", "synthetic": False, "generator": "",
        "licence": "CC0-1.0",
    }  # fmt: skip
    return make_row(ITEM, values, [half, question.text])


def key_of(question: Question) -> str:
    """The family with the question's first own word: questions that share a key differ little."""
    words = question.text.split()
    own = next(word for word in words if word.isdigit() or word in OWN_WORDS)
    return f"{question.family}/{own}-{len(words)}"
