"""Prompts of the procedural world: the generator is asked for questions; well-formed ones get a checked answer."""

from collections import Counter
from typing import Any

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from models.engine import Generator, SamplingParams
from tasks.configs.world import WorldPromptsConfig
from tasks.engines.abilities import Meter
from tasks.generation import open_engine
from tasks.judges.ground_truth import verifier
from tasks.rows import PROMPT, make_row, row_seed
from tasks.world.grammar import FAMILIES, Question, is_reserved, parse
from tasks.world.human import request


def run(config: WorldPromptsConfig, output: Output, generator: Artifact) -> Outcome:
    """Raises EmptyDataset, with what was wrong, when the generator wrote no question that can be used."""
    families = [FAMILIES[index % len(FAMILIES)] for index in range(config.asked)]
    engine = open_engine(generator, config.resources)
    meter = Meter(engine)
    texts = write_questions(config, output, engine, families)
    counts: Counter[str] = Counter({"in": len(texts)})
    kept: dict[str, Question] = {}
    for family, text in zip(families, texts, strict=True):
        question = parse(family, text)
        reason = reject(question, kept)
        if question is None or reason:
            counts[f"dropped:{reason}"] += 1
        else:
            kept[question.text] = question
    if not kept:
        raise EmptyDataset(f"no usable question: {dict(counts)}", "train the teacher longer, or raise prompts.asked")
    counts["kept"] = len(kept)
    output.write_shard(0, [prompt_row(question, generator.fingerprint) for question in kept.values()], PROMPT)
    return Outcome(rows=len(kept), counts=dict(counts), metrics=meter.metrics(), result={"licences": ["CC0-1.0"]})


def write_questions(config: WorldPromptsConfig, output: Output, engine: Generator, families: list[str]) -> list[str]:
    """One question for each entry of `families`, in the generator's words."""
    params = [
        SamplingParams(
            temperature=config.temperature,
            max_tokens=config.max_tokens,
            seed=row_seed(output.fingerprint, f"{family}/{index}"),
        )
        for index, family in enumerate(families)
    ]

    def tell(done: int, total: int, tokens: int) -> None:
        output.progress(done, total, "questions", tokens=tokens)

    results = engine.generate([request(f) for f in families], params, tell)
    return [result.text for result in results]


def reject(question: Question | None, kept: dict[str, Question]) -> str:
    """Why a question cannot be used; "" when it can."""
    if question is None:
        return "malformed"
    if is_reserved(question.text):
        return "reserved for examinations"
    return "duplicate" if question.text in kept else ""


def prompt_row(question: Question, generator: str) -> dict[str, Any]:
    values = {
        "family": question.family, "topic": question.family, "task": question.family, "answer_format": "text",
        "messages": question.turns(), "side": "", "unsafe": False, "details": "{}",
        "verifier": None if question.answer is None else verifier("world", {"answer": question.answer}),
        "source": "world", "synthetic": True, "generator": generator, "licence": "CC0-1.0",
    }  # fmt: skip
    return make_row(PROMPT, values, [question.family, question.text])
