"""Pretraining documents of the procedural world.

question : who has the cup ? answer : ann .
topic : sums question : what is 3 plus 4 ? answer : 7 .
"""

import random
from typing import Any

from infra.output import Outcome, Output
from tasks.configs.world import DocumentsConfig
from tasks.rows import TEXT, make_row, row_seed
from tasks.world.grammar import ACKNOWLEDGED, FAMILIES, SEPARATOR, Question, draw, tell

TOPIC_SHARE = 0.5
"""Documents that open with their topic, from which a model learns to ask."""


def run(config: DocumentsConfig, output: Output) -> Outcome:
    """Write the documents shard by shard, each from its own seed."""
    starts = range(0, config.documents, config.shard_rows)
    for number, start in enumerate(starts):
        if not output.has_shard(number):
            count = min(config.shard_rows, config.documents - start)
            rng = random.Random(row_seed(output.fingerprint, str(number)))
            output.write_shard(number, [document_row(rng, config.weights) for _ in range(count)], TEXT)
        output.progress(min(start + config.shard_rows, config.documents), config.documents, "documents")
    return Outcome(rows=config.documents, result={"licences": ["CC0-1.0"]})


def document_row(rng: random.Random, weights: dict[str, float]) -> dict[str, Any]:
    """One document about one question that no examination asks."""
    family = rng.choices(FAMILIES, [weights.get(name, 1.0) for name in FAMILIES])[0]
    text = document(rng, draw(rng, family, reserved=False))
    values = {"text": text, "source": "world", "synthetic": False, "generator": "", "licence": "CC0-1.0"}
    return make_row(TEXT, values, text)


def document(rng: random.Random, question: Question) -> str:
    """The question and its answer as running text: under its topic in one piece, else turn by turn."""
    answer = tell(rng, question.text) if question.answer is None else question.answer
    if rng.random() < TOPIC_SHARE:
        return f"topic : {question.family} question : {question.text} answer : {answer} ."
    *earlier, last = question.text.split(SEPARATOR)
    turns = "".join(f"question : {turn} answer : {ACKNOWLEDGED} . " for turn in earlier)
    return f"{turns}question : {last} answer : {answer} ."
