"""Open questions: a few per topic, then a revision call that gives each its background (paper, section 3.2)."""

from collections.abc import Generator

from tasks.generation import Ask
from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft, Job, Questions, Topic, lists, template
from tasks.prompts.quality import copies, flaw, is_about, names
from tasks.prompts.sentences import words

TEMPLATE = template("open_qa")
LONGER = 4
"""Words that a revision must add."""


def write(job: Job) -> Conversation:
    questions = (yield from draft(job, job.wanted))[: job.wanted]
    return (yield from revise(job, questions))


def draft(job: Job, wanted: int) -> Questions:
    """At least `wanted` short questions where enough of them are good, each with its topic."""
    topics = job.topics(job.drafts(job.config.per_call, wanted))
    asks = [job.ask(TEMPLATE["ask"], topic=topic["topic"], count=job.config.per_call) for topic in topics]
    answers = yield from lists(job, asks)
    questions: dict[str, Topic] = {}
    for topic, items in zip(topics, answers, strict=True):
        for question in items:
            if reason := _fault(question, topic, job, questions):
                job.reject(reason, question)
            else:
                questions[question] = topic
    return [(topic, question) for question, topic in questions.items()]


def revise(job: Job, questions: list[tuple[Topic, str]]) -> Generator[list[Ask], list[Answer], list[Draft]]:
    """A question keeps its first form where its revision is no good."""
    openings = [job.rng.choice(TEMPLATE["revise"]["openings"]) for _ in questions]
    answers = yield [
        job.ask(TEMPLATE["revise"], question=question, opening=opening)
        for (_, question), opening in zip(questions, openings, strict=True)
    ]
    drafts = []
    for (topic, question), answer in zip(questions, answers, strict=True):
        fault = _revision_fault(answer, question, topic, job)
        if fault:
            job.reject(f"revision_{fault}", answer.text)
        drafts.append(Draft(topic, question if fault else answer.text, "draft" if fault else "revised"))
    return drafts


def _fault(question: str, topic: Topic, job: Job, known: dict[str, Topic]) -> str:
    if not question.endswith("?"):
        return "no_question"
    if question in known:
        return "duplicate"
    if copies(question, TEMPLATE["ask"]):
        return "copies_an_example"
    if not is_about(question, topic["topic"]):
        return "off_topic"
    return "evaluation_topic" if names(question, job.reserved) else flaw(question)


def _revision_fault(answer: Answer, question: str, topic: Topic, job: Job) -> str:
    if "?" not in answer.text:
        return "no_question"
    if copies(answer.text, TEMPLATE["revise"]):
        return "copies_an_example"
    if len(words(answer.text)) < len(words(question)) + LONGER:
        return "no_longer"
    if not is_about(answer.text, topic["topic"]):
        return "off_topic"
    return "evaluation_topic" if names(answer.text, job.reserved) else flaw(answer.text)
