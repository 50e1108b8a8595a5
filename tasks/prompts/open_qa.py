"""Open questions: a few per topic, then a revision call that gives each its background (paper, section 3.2).

Which questions are asked for depends on how they are to be answered: a list needs "What are …", a yes "Is …".
"""

import re
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.generation import Ask
from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft, Job, Questions, Topic, asked, lists, register, template
from tasks.prompts.formats import FORMATS, as_planned, begins, plan, suits, with_format
from tasks.prompts.quality import copies, flaw, is_about, names
from tasks.prompts.sentences import sentences, words

TEMPLATE = template("open_qa")
LONGER = 4
"""Words that a revision must add."""
LONGEST = 140
"""Characters of a sentence that comes to its end by itself; at its pattern's limit one is cut off."""
SHOWN = 3
"""Questions in each example."""


@dataclass(frozen=True)
class Question:
    topic: Topic
    text: str
    answer_format: str


def _ask(name: str) -> dict[str, Any]:
    """The call for questions that this answer format suits."""
    data, ask = FORMATS[name], TEMPLATE["ask"]
    shots = [[ask["user"].format(topic=topic, count=SHOWN, kind=data["kind"]), said] for topic, said in data["shots"]]
    item = {"item": rf"(?:{begins(name)}) [^\n?]{{8,120}}\?"} if begins(name) else {}
    return {**ask, "shots": shots, **item}


ASKS = {name: _ask(name) for name, data in FORMATS.items() if "kind" in data}


@register("open_qa")
def write(job: Job) -> Conversation:
    formats = [name for _, name in plan("open_qa", job.wanted, job.config.answer_formats, job.rng)]
    written = yield from write_questions(job, Counter(formats))
    questions = as_planned(((question.answer_format, question) for question in written), formats)
    return (yield from revise(job, questions))


def draft(job: Job, wanted: int) -> Questions:
    """At least `wanted` short questions of any kind where enough of them are good, each with its topic."""
    questions = yield from write_questions(job, {"paragraph": wanted})
    return [(question.topic, question.text) for question in questions]


def write_questions(job: Job, formats: Mapping[str, int]) -> Generator[list[Ask], list[Answer], list[Question]]:
    """Questions for each answer format, more than wanted where they are good; topics go round over all formats."""
    per_call = job.config.per_call
    calls = [name for name, wanted in formats.items() for _ in range(job.drafts(per_call, wanted))]
    job.rng.shuffle(calls)
    topics = job.topics(len(calls))
    answers = yield from lists(
        job,
        [
            job.ask(ASKS[name], topic=topic["topic"], count=per_call, kind=FORMATS[name]["kind"])
            for name, topic in zip(calls, topics, strict=True)
        ],
    )
    questions: dict[str, Question] = {}
    for name, topic, items in zip(calls, topics, answers, strict=True):
        for text in items:
            question = Question(topic, text, name)
            if reason := _fault(question, job, questions):
                job.reject(reason, text)
            else:
                questions[text] = question
    return [*questions.values()]


def revise(job: Job, questions: list[Question]) -> Generator[list[Ask], list[Answer], list[Draft]]:
    """A question keeps its first form where its revision is no good."""
    answers = yield [
        job.ask(
            {**TEMPLATE["revise"], "pattern": TEMPLATE["revise"]["pattern"].format(question=re.escape(question.text))},
            question=question.text,
            opening=job.rng.choice(TEMPLATE["revise"]["openings"]),
        )
        for question in questions
    ]
    drafts = []
    for question, answer in zip(questions, answers, strict=True):
        fault = _revision_fault(answer, question, job)
        if fault:
            job.reject(f"revision_{fault}", answer.text)
        text = with_format(question.text if fault else answer.text, question.answer_format, job.rng)
        source = "draft" if fault else "revised"
        drafts.append(Draft(question.topic, asked(text), source, "question", question.answer_format))
    return drafts


def _fault(question: Question, job: Job, known: Mapping[str, Question]) -> str:
    text = question.text
    if not text.endswith("?"):
        return "no_question"
    if text in known:
        return "duplicate"
    if not suits(text, question.answer_format):
        return "unfit_for_format"
    if copies(text, ASKS[question.answer_format]):
        return "copies_an_example"
    if not is_about(text, question.topic["topic"]):
        return "off_topic"
    return "evaluation_topic" if names(text, job.reserved) else flaw(text)


def _revision_fault(answer: Answer, question: Question, job: Job) -> str:
    added = answer.text.replace(question.text, "")
    if "?" not in answer.text:
        return "no_question"
    if not suits(answer.text, question.answer_format):
        return "unfit_for_format"
    if max(map(len, sentences(added)), default=0) > LONGEST:
        return "unfinished"
    if copies(added, TEMPLATE["revise"]):
        return "copies_an_example"
    if len(words(answer.text)) < len(words(question.text)) + LONGER:
        return "no_longer"
    if not is_about(added, f"{question.topic['topic']} {question.text}"):
        return "off_topic"
    return "evaluation_topic" if names(answer.text, job.reserved) else flaw(answer.text)
