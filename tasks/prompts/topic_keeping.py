"""Keeping to a topic: an assistant that is told to talk about one subject, and a user who strays from it or does not
(after CantTalkAboutThis; paper, section 3.2.5).

    system: keep to the subject; user: a question on it; assistant: an answer; user: a distractor, or another question

Half of the prompts must be declined, half must not.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.answer_checks import similarity
from tasks.generation import Ask
from tasks.judges.ground_truth import verifier
from tasks.judges.verifiers.refusal import declines
from tasks.prompts import open_qa
from tasks.prompts.calls import Answer
from tasks.prompts.exchanges import replies, reply_fault, said
from tasks.prompts.family import Conversation, Draft, Job, Topic, lists, register, template
from tasks.prompts.quality import copies, flaw, names, stems

TEMPLATE = template("topic_keeping")
Scenario = Mapping[str, Any]
SAME = 0.5
"""Similarity from which two questions are one."""


@dataclass(frozen=True)
class Talk:
    """A conversation in the making."""

    scenario: Scenario
    messages: list[dict[str, str]]
    next_question: str
    """Another one on the subject."""


@register("topic_keeping")
def write(job: Job) -> Conversation:
    talks = yield from _opened(job)
    distractors = yield from open_qa.draft(job, len(talks))
    job.rng.shuffle(distractors)
    answers = yield replies(job, [talk.messages for talk in talks], TEMPLATE["reply_tokens"])
    drafts: list[Draft] = []
    for talk, answer in zip(talks, answers, strict=True):
        messages = [*talk.messages, {"role": "assistant", "content": said(answer)}]
        if fault := _reply_fault(messages[-1]["content"], job):
            job.reject(f"answer_{fault}", messages)
            continue
        talk = replace(talk, messages=messages)
        if len(drafts) % 2:
            drafts.append(_keeps(talk))
        elif stray := _stray(talk.scenario, distractors):
            distractors.remove(stray)
            drafts.append(_strays(talk, *stray, job))
        else:
            job.reject("no_distractor", messages)
    return drafts


def _opened(job: Job) -> Generator[list[Ask], list[Answer], list[Talk]]:
    """Conversations up to the user's first question, and a second question each."""
    scenarios = [job.rng.choice(TEMPLATE["scenarios"]) for _ in range(job.drafts(1))]
    asks = [job.ask(TEMPLATE["questions"], place=one["place"], about=one["about"]) for one in scenarios]
    answers = yield from lists(job, asks)
    talks = []
    for scenario, items in zip(scenarios, answers, strict=True):
        questions: list[str] = []
        for question in items:
            if fault := _question_fault(question, scenario, questions, job):
                job.reject(f"question_{fault}", question)
            else:
                questions.append(question)
        if len(questions) > 1:
            system = job.rng.choice(TEMPLATE["systems"]).format(**scenario)
            messages = [{"role": "system", "content": system}, {"role": "user", "content": questions[0]}]
            talks.append(Talk(scenario, messages, questions[1]))
    return talks


def _question_fault(question: str, scenario: Scenario, known: Sequence[str], job: Job) -> str:
    if not question.endswith("?"):
        return "no_question"
    if not _near(scenario) & stems(question):
        return "off_topic"
    if max((similarity(question, other) for other in known), default=0.0) >= SAME:
        return "duplicate"
    if copies(question, TEMPLATE["questions"]):
        return "copies_an_example"
    return "evaluation_topic" if names(question, job.reserved) else flaw(question)


def _near(scenario: Scenario) -> set[str]:
    """Words that belong to its subject."""
    return stems(f"{scenario['near']} {scenario['about']} {scenario['place']}")


def _reply_fault(text: str, job: Job) -> str:
    if declines(text) is not False:
        return "declines"
    return "evaluation_topic" if names(text, job.reserved) else reply_fault(text)


def _stray(scenario: Scenario, distractors: Sequence[tuple[Topic, str]]) -> tuple[Topic, str] | None:
    """The first distractor that has nothing to do with the scenario, None where all have."""
    near = _near(scenario)
    return next(((topic, text) for topic, text in distractors if not near & stems(f"{topic['topic']} {text}")), None)


def _strays(talk: Talk, topic: Topic, question: str, job: Job) -> Draft:
    turn = job.rng.choice(TEMPLATE["transitions"]).format(question=question)
    start = TEMPLATE["start"].format(**talk.scenario)
    return _draft(talk, topic, turn, "distractor", {"refuse": True, "about": question, "start": start})


def _keeps(talk: Talk) -> Draft:
    return _draft(talk, None, talk.next_question, "on_topic", {"refuse": False})


def _draft(talk: Talk, topic: Topic | None, turn: str, kind: str, payload: Mapping[str, Any]) -> Draft:
    return Draft(
        topic, [*talk.messages, {"role": "user", "content": turn}], kind, kind, verifier=verifier("refusal", payload),
        licences=(TEMPLATE["licence"],), details={"domain": talk.scenario["domain"]},
    )  # fmt: skip
