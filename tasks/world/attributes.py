"""Labelled answers of the procedural world: the right one, and copies that are damaged on purpose."""

import random
from typing import Any

from infra.output import Outcome, Output
from tasks.configs.world import WorldAttributesConfig
from tasks.rows import ATTRIBUTE, ATTRIBUTES, make_row, row_seed
from tasks.world.grammar import FAMILIES, WORDS, Question, draw, tell

LABELS = {
    "right": (4, 4, 4, 1, 1), "wrong": (1, 0, 3, 1, 1), "repeated": (2, 2, 1, 1, 4), "salad": (0, 0, 0, 1, 2),
}  # fmt: skip
"""Damage to helpfulness, correctness, coherence, complexity and verbosity, 0..4."""


def run(config: WorldAttributesConfig, output: Output) -> Outcome:
    """One row for each kind of damage to each answer."""
    rng = random.Random(row_seed(output.fingerprint, "rows"))
    rows = []
    for index in range(config.prompts):
        question = draw(rng, FAMILIES[index % len(FAMILIES)], reserved=False)
        rows += [attribute_row(question, text, kind) for kind, text in answers(rng, question).items()]
    unique = list({row["id"]: row for row in rows}.values())
    output.write_shard(0, unique, ATTRIBUTE)
    return Outcome(rows=len(unique), counts={"kept": len(unique)}, result={"licences": ["CC0-1.0"]})


def answers(rng: random.Random, question: Question) -> dict[str, str]:
    """The right answer and its damaged copies."""
    right = tell(rng, question.text) if question.answer is None else question.answer
    other = draw(rng, question.family, reserved=False)
    wrong = tell(rng, other.text) if other.answer is None else other.answer
    salad = " ".join(rng.choice(WORDS) for _ in range(rng.choice((2, 3, 5))))
    found = {"right": right, "wrong": wrong, "repeated": " ".join([right] * 3), "salad": salad}
    return {kind: text for kind, text in found.items() if kind == "right" or text != right}


def attribute_row(question: Question, response: str, kind: str) -> dict[str, Any]:
    labels = dict(zip(ATTRIBUTES, LABELS[kind], strict=True))
    values = {
        "prompt": question.turns(), "response": response, **labels, "source": "procedural-damage", "synthetic": False,
        "generator": "", "licence": "CC0-1.0",
    }  # fmt: skip
    return make_row(ATTRIBUTE, values, [question.text, response])
