"""Writing tasks: ideas per kind of document and topic, then a revision call that adds a demand (paper, section 3.2)."""

from collections.abc import Sequence
from itertools import cycle, islice

from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft, Job, Questions, Topic, asked, lists, register, template
from tasks.prompts.quality import copies, flaw, is_about, names
from tasks.prompts.sentences import sentences, words

TEMPLATE = template("writing")
ADDED_WORDS = 5
"""Words that a revision must add."""


@register("writing")
def write(job: Job) -> Conversation:
    tasks = (yield from draft(job, job.wanted, TEMPLATE["documents"]))[: job.wanted]
    openings = [job.rng.choice(TEMPLATE["revise"]["openings"]) for _ in tasks]
    answers = yield [
        job.ask(TEMPLATE["revise"], task=task, opening=opening)
        for (_, task), opening in zip(tasks, openings, strict=True)
    ]
    drafts = []
    for (topic, task), answer in zip(tasks, answers, strict=True):
        kind = _kind(task)
        revised = _first_demand(answer, task)
        fault = _revision_fault(revised, task, topic, job)
        if fault:
            job.reject(f"revision_{fault}", answer.text)
        drafts.append(Draft(topic, asked(task if fault else revised), "draft" if fault else "revised", kind, "text"))
    return drafts


def draft(job: Job, wanted: int, documents: Sequence[str]) -> Questions:
    """At least `wanted` one-sentence tasks where enough of them are good, each with its topic."""
    topics = job.topics(job.drafts(TEMPLATE["ideas"], wanted))
    kinds = [*islice(cycle(job.rng.sample(documents, len(documents))), len(topics))]
    asks = [
        job.ask(TEMPLATE["ask"], topic=topic["topic"], document=kind, count=TEMPLATE["ideas"])
        for topic, kind in zip(topics, kinds, strict=True)
    ]
    answers = yield from lists(job, asks)
    tasks: dict[str, Topic] = {}
    for topic, kind, items in zip(topics, kinds, answers, strict=True):
        for task in items:
            reason = "" if task.startswith(f"Write {kind}") else "no_task"
            if reason := reason or _fault(task, topic, job, tasks):
                job.reject(reason, task)
            else:
                tasks[task] = topic
    return [(topic, task) for task, topic in tasks.items()]


def _kind(task: str) -> str:
    """The document that a task asks for: "poem", "letter", …"""
    kinds = [kind for kind in TEMPLATE["documents"] if task.startswith(f"Write {kind}")]
    return max(kinds, key=len).removeprefix("a ").removeprefix("an ")


def _first_demand(answer: Answer, task: str) -> str:
    """The task with the first whole sentence that was added; the task alone where none is whole."""
    added = sentences(answer.text.removeprefix(task))
    return f"{task} {added[0]}" if added and (answer.finished or len(added) > 1) else task


def _revision_fault(revised: str, task: str, topic: Topic, job: Job) -> str:
    added = revised.removeprefix(task)
    if len(words(added)) < ADDED_WORDS:
        return "no_longer"
    return "copies_an_example" if copies(added, TEMPLATE["revise"]) else _fault(revised, topic, job, [])


def _fault(task: str, topic: Topic, job: Job, known: Sequence[str] | dict[str, Topic]) -> str:
    if task in known:
        return "duplicate"
    if copies(task, TEMPLATE["ask"]):
        return "copies_an_example"
    if not is_about(task, topic["topic"]):
        return "off_topic"
    return "evaluation_topic" if names(task, job.reserved) else flaw(task)
