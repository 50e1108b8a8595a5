"""Tasks that no text model can do, which must be declined, and tasks about the same things that must not be.

The generator writes both after a few human examples of each kind (paper, section 3.2.5).
"""

from typing import Any

from tasks.judges.ground_truth import verifier
from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft, Job, Topic, asked, register, template
from tasks.prompts.quality import copies, flaw, is_about, names
from tasks.prompts.sentences import sentences

TEMPLATE = template("incapable")
KINDS: dict[str, dict[str, Any]] = TEMPLATE["kinds"]
CLASSES = ("cannot", "can")


@register("incapable")
def write(job: Job) -> Conversation:
    """Kinds and classes take turns over the topics, so that each has its share."""
    topics = job.topics(job.drafts(1) * TEMPLATE["tries"])
    kinds = job.rng.sample([*KINDS], len(KINDS))
    places = [(kinds[turn // 2 % len(kinds)], CLASSES[turn % 2]) for turn in range(len(topics))]
    openings = [job.rng.choice(KINDS[kind][side]) for kind, side in places]
    answers = yield [
        job.ask(_template(kind, side), topic=topic["topic"], kind=KINDS[kind]["about"], opening=opening)
        for topic, (kind, side), opening in zip(topics, places, openings, strict=True)
    ]
    drafts: dict[str, list[Draft]] = {side: [] for side in CLASSES}
    for topic, (kind, side), answer in zip(topics, places, answers, strict=True):
        text = _first(answer)
        if fault := _fault(text, topic, _template(kind, side), job):
            job.reject(fault, answer.text, f"{kind}, {side}")
        else:
            drafts[side].append(_draft(topic, text, kind, side))
    return [draft for pair in zip(*drafts.values(), strict=False) for draft in pair]


def _template(kind: str, side: str) -> dict[str, Any]:
    """The call of one kind and class, with its examples."""
    write = TEMPLATE["write"]
    shots = [
        [write["user"].format(kind=KINDS[kind]["about"], topic=topic), request]
        for topic, request in KINDS[kind]["shots"][side]
    ]
    return {**write, "shots": shots}


def _first(answer: Answer) -> str:
    """The first sentence, "" where it is not whole."""
    told = sentences(answer.text)
    return told[0] if told and (answer.finished or len(told) > 1) else ""


def _fault(text: str, topic: Topic, shown: dict[str, Any], job: Job) -> str:
    if fault := flaw(text):
        return fault
    if copies(text, shown):
        return "copies_an_example"
    if not is_about(text, topic["topic"]):
        return "off_topic"
    return "evaluation_topic" if names(text, job.reserved) else ""


def _draft(topic: Topic, text: str, kind: str, side: str) -> Draft:
    payload = {"refuse": True, "start": KINDS[kind]["start"]} if side == "cannot" else {"refuse": False}
    return Draft(
        topic, asked(text), f"{side}:{kind}", kind, verifier=verifier("refusal", payload),
        licences=(TEMPLATE["licence"],), details={"kind": kind, "can": side == "can"},
    )  # fmt: skip
