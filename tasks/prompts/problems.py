"""Problems about a keyword, in the generator's words: what maths and coding share (paper, section 3.2)."""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from tasks.answer_checks import whole_sentences
from tasks.generation import Ask
from tasks.picked_keywords import Field, picked_keywords
from tasks.prompts.calls import Answer
from tasks.prompts.family import Draft, Job, Row, asked
from tasks.prompts.quality import copies, flaw, names

Planned = list[tuple[str, Row]]
"""Levels and keywords."""


def plan_problems(job: Job, field: Field, levels: Mapping[str, Any], wanted: int) -> Planned:
    """Levels take turns over the keywords given to the stage, or over the hand-picked ones."""
    rows = [row for row in job.material.get("keywords", []) if row["field"] == field] or picked_keywords(field)
    shuffled = job.rng.sample([*rows], len(rows))
    count = job.drafts(1, wanted)
    return [*islice(zip(cycle(levels), cycle(shuffled)), count)]


def ask_problems(job: Job, levels: Mapping[str, Any], planned: Planned) -> list[Ask]:
    return [job.ask(levels[level], keyword=row["keyword"]) for level, row in planned]


def problems(
    job: Job, levels: Mapping[str, Any], planned: Planned, answers: Sequence[Answer], answer_format: str
) -> list[Draft]:
    """The good ones; nothing checks their answers."""
    drafts: dict[str, Draft] = {}
    for (level, row), answer in zip(planned, answers, strict=True):
        text = answer.text if answer.finished else whole_sentences(answer.text)
        if reason := "duplicate" if text in drafts else _fault(text, levels[level], job):
            job.reject(f"problem_{reason}", answer.text, detail=row["keyword"])
        else:
            drafts[text] = Draft(
                None, asked(text), f"keyword/{level}", "problem", answer_format, parents=(row["id"],),
                licences=(row["licence"] or "",), details={"keyword": row["keyword"], "level": level},
            )  # fmt: skip
    return [*drafts.values()]


def _fault(text: str, template: Mapping[str, Any], job: Job) -> str:
    if copies(text, template):
        return "copies_an_example"
    return "evaluation_topic" if names(text, job.reserved) else flaw(text)
