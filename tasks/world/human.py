"""The few rows a person would write: how to answer in a conversation, and how to ask a question when asked for one."""

import random
from typing import Any

from infra.output import Outcome, Output
from tasks.configs.world import HumanRowsConfig
from tasks.rows import DIALOGUE, make_row, row_seed
from tasks.world.grammar import FAMILIES, Question, draw, tell

LICENCE = "CC0-1.0"


def run(config: HumanRowsConfig, output: Output) -> Outcome:
    """Answers and questions, the families taking turns."""
    rng = random.Random(row_seed(output.fingerprint, "rows"))
    rows = [
        human_row(rng, draw(rng, FAMILIES[index % len(FAMILIES)], reserved=False), asks=index >= config.answers)
        for index in range(config.answers + config.questions)
    ]
    unique = list({row["id"]: row for row in rows}.values())
    output.write_shard(0, unique, DIALOGUE)
    counts = {"in": len(rows), "kept": len(unique), "dropped:duplicate": len(rows) - len(unique)}
    return Outcome(rows=len(unique), counts=counts, result={"licences": [LICENCE]})


def request(family: str) -> list[dict[str, str]]:
    """What the user says to be asked a question."""
    return [{"role": "user", "content": f"ask about {family}"}]


def human_row(rng: random.Random, question: Question, asks: bool) -> dict[str, Any]:
    """A conversation that asks `question`, or that answers it."""
    if asks:
        messages = [*request(question.family), {"role": "assistant", "content": question.text}]
    else:
        answer = tell(rng, question.text) if question.answer is None else question.answer
        messages = [*question.turns(), {"role": "assistant", "content": answer}]
    values = {
        "family": question.family, "messages": messages, "source": "human", "synthetic": False, "generator": "",
        "licence": LICENCE,
    }  # fmt: skip
    return make_row(DIALOGUE, values, messages)
