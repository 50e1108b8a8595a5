"""What the reward model learns from: HelpSteer2's human labels, or answers that are damaged on purpose.

The generator answers curated questions; each answer and a few damaged copies of it become rows with the labels that the
damage leaves (tasks/damage.py). Rows of one question stand together, so that accuracy on pairs can be measured.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from models.engine import SamplingParams
from tasks.answer_checks import runs_in_circles, whole_sentences
from tasks.configs.attributes import QUESTIONS_FILE, AttributesConfig
from tasks.damage import OPERATORS, Answer, damaged, labels_of
from tasks.generation import Ask, Writer, licence_of, open_engine, write_shards
from tasks.prompts.sentences import words
from tasks.rows import ATTRIBUTE, make_row, row_id, row_seed
from tasks.sources.helpsteer2 import read_helpsteer2

Row = dict[str, Any]

MIN_WORDS = 12
"""Answers of fewer words offer too little to damage."""
SHARD_ROWS = 4096


def run(config: AttributesConfig, output: Output, generator: Artifact | None = None) -> Outcome:
    """ATTRIBUTE rows. Raises EmptyDataset where no answer can be used, InputError for a file that is not HelpSteer2's.

    `generator` writes the procedural set's answers; a file needs none.
    """
    if config.helpsteer2:
        return import_helpsteer2(config, output)
    if generator is None:
        raise EmptyDataset("neither a generator nor a file with HelpSteer2's rows", "give attributes.helpsteer2")
    questions = Random(config.seed).sample(list_questions(), config.prompts)
    writer = Writer(open_engine(generator, config.resources), output)
    provenance = {"source": config.source, "synthetic": True, "generator": generator.fingerprint,
                  "licence": licence_of(generator)}  # fmt: skip
    numbered = list(enumerate(questions))
    write_shards(output, writer, numbered, config.shard_prompts, ATTRIBUTE,
                 lambda shard: damaged_rows(config, writer, shard, provenance))  # fmt: skip
    rows = [row for shard in range(-(-len(numbered) // config.shard_prompts)) for row in output.read_shard(shard)]
    return outcome(config, rows, writer.metrics())


def outcome(config: AttributesConfig, rows: Sequence[Row], metrics: dict[str, float]) -> Outcome:
    """Counts of questions; a question without a usable answer is dropped."""
    used = len({row["prompt"][0]["content"] for row in rows})
    counts = {"in": config.prompts, "kept": used, "dropped:unusable_answer": config.prompts - used}
    if used < 2:
        raise EmptyDataset(
            f"{used} of {config.prompts} questions have a usable answer: {MIN_WORDS} words or more, not in circles",
            "raise attributes.max_tokens, or give HelpSteer2's rows in attributes.helpsteer2",
        )
    result = {"source": config.source, "questions": used, "licences": sorted({row["licence"] or "" for row in rows})}
    return Outcome(rows=len(rows), counts=counts, metrics=metrics, result=result)


def list_questions() -> list[str]:
    """The curated questions."""
    return yaml.safe_load(QUESTIONS_FILE.read_text(encoding="utf-8"))


def damaged_rows(
    config: AttributesConfig, writer: Writer, shard: Sequence[tuple[int, str]], provenance: dict[str, Any]
) -> list[Row]:
    """Ask a shard's questions and damage the answers; one answer's place may be taken by its neighbor's."""
    params = SamplingParams(temperature=config.temperature, max_tokens=config.max_tokens)
    prompts = [[{"role": "user", "content": question}] for _, question in shard]
    results = writer.write([Ask(row_id(prompt), prompt, params) for prompt in prompts])
    answers = [usable(result.text, result.finish_reason) for result in results]
    rows: list[Row] = []
    for place, (turn, question) in enumerate(shard):
        if answers[place]:
            rng = Random(row_seed(writer.output.fingerprint, question))
            answer = Answer(answers[place], answers[(place + 1) % len(answers)])
            copies = damaged(answer, config.rows_per_prompt - 1, turn * (config.rows_per_prompt - 1), rng)
            rows += rows_of(prompts[place], answer.text, copies, provenance)
    return rows


def usable(text: str, finish_reason: str) -> str:
    """An answer that may count as undamaged, whole sentences only; "" for a short one or one that runs in circles."""
    text = whole_sentences(text) if finish_reason == "length" else text.strip()
    return text if len(words(text)) >= MIN_WORDS and not runs_in_circles(text) else ""


def rows_of(
    prompt: list[dict[str, str]], answer: str, copies: Sequence[tuple[str, int, str]], provenance: dict[str, Any]
) -> list[Row]:
    """The answer's row, then its damaged copies with that row as their parent."""
    shared = {"prompt": prompt, **provenance}
    original = make_row(ATTRIBUTE, {**shared, "response": answer, **labels_of(answer)}, [prompt, answer])
    rows = [original]
    for name, severity, text in copies:
        cut = OPERATORS[name].cuts[severity - 1]
        rows.append(make_row(ATTRIBUTE, {**shared, "response": text, **labels_of(text, cut)}, [prompt, text],
                             [original["id"]]))  # fmt: skip
    return rows


def import_helpsteer2(config: AttributesConfig, output: Output) -> Outcome:
    """The file's rows as they are."""
    rows = read_helpsteer2(Path(config.helpsteer2), config.max_rows)
    for shard, start in enumerate(range(0, len(rows), SHARD_ROWS)):
        output.write_shard(shard, rows[start : start + SHARD_ROWS], ATTRIBUTE)
        output.progress(min(len(rows), start + SHARD_ROWS), len(rows), "rows")
    prompts = Counter(row["prompt"][0]["content"] for row in rows)
    result = {"source": config.source, "questions": len(prompts), "licences": sorted({row["licence"] for row in rows})}
    return Outcome(rows=len(rows), counts={"in": len(rows), "kept": len(rows)}, result=result)
