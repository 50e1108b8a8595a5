"""Maths problems of two kinds (paper, section 3.2).

One-step word problems: the generator writes the scene and names the things, a template asks, the answer is computed. A
small generator cannot be trusted with sums, so no number of its own is kept: a scene with one is rejected.

Problems about a keyword, general or for beginners: the generator writes all of it, and nothing checks the answers.
"""

import re

from tasks.judges.ground_truth import verifier
from tasks.judges.verifiers.number import final_number
from tasks.prompts.arithmetic import SOLVE
from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft, Job, Topic, asked, register, template
from tasks.prompts.problems import ask_problems, plan_problems, problems
from tasks.prompts.quality import copies, flaw, names
from tasks.prompts.sentences import sentences

TEMPLATE = template("maths")
LEVELS = TEMPLATE["levels"]
_THING = re.compile(r"[a-z]+(?: [a-z]+)?[^\Ws]s")


@register("maths")
def write(job: Job) -> Conversation:
    alone = round(job.wanted * job.config.keyword_maths)
    planned = plan_problems(job, "maths", LEVELS, alone)
    topics = job.topics(job.drafts(1, job.wanted - alone))
    heroes = [job.rng.choice(TEMPLATE["names"]) for _ in topics]
    scenes = [
        job.ask(TEMPLATE["scene"], topic=topic["topic"], name=hero) for topic, hero in zip(topics, heroes, strict=True)
    ]
    things = [job.ask(TEMPLATE["things"], topic=topic["topic"]) for topic in topics]
    answers = yield [*scenes, *things, *ask_problems(job, LEVELS, planned)]
    drafts: list[Draft] = []
    for topic, hero, scene, named in zip(topics, heroes, answers, answers[len(topics) :], strict=False):
        text, counted = _scene(scene, hero, job), _things(named, job)
        if text and counted:
            drafts.append(_problem(job, topic, text, hero, job.rng.choice(counted), len(drafts)))
    unchecked = problems(job, LEVELS, planned, answers[2 * len(topics) :], "paragraph")
    return [*unchecked[:alone], *drafts, *unchecked[alone:]]


def _scene(answer: Answer, hero: str, job: Job) -> str:
    """The first sentence, "" where it is no good."""
    said = sentences(answer.text)
    text = said[0] if said else ""
    fault = flaw(text)
    if not fault and hero not in text:
        fault = "no_hero"
    if not fault and final_number(re.sub(r"\bone\b", "", text, flags=re.IGNORECASE)) is not None:
        fault = "has_a_number"
    if not fault and copies(text, TEMPLATE["scene"]):
        fault = "copies_an_example"
    if not fault and names(text, job.reserved):
        fault = "evaluation_topic"
    if fault:
        job.reject(f"scene_{fault}", answer.text)
    return "" if fault else text


def _things(answer: Answer, job: Job) -> list[str]:
    """Plural nouns of one or two words, without repeats."""
    found = [part.strip(" .").lower() for part in answer.text.split(",")]
    things = [part for part in dict.fromkeys(found) if _THING.fullmatch(part) and not names(part, job.reserved)]
    if not things:
        job.reject("no_countable_things", answer.text)
    return things


def _problem(job: Job, topic: Topic, scene: str, hero: str, things: str, turn: int) -> Draft:
    """Operations take turns, so that each has its share."""
    operation = list(TEMPLATE["problems"])[turn % len(TEMPLATE["problems"])]
    largest = TEMPLATE["largest"][operation]
    a = job.rng.randint(4, largest)
    b = job.rng.randint(2, min(a - 1, 9))
    if operation == "share":
        a *= b
    problem = job.rng.choice(TEMPLATE["problems"][operation]).format(name=hero, things=things, a=a, b=b)
    answer = verifier("number", {"value": str(SOLVE[operation](a, b))})
    text = f"{scene} {problem} {job.rng.choice(TEMPLATE['closing'])}"
    return Draft(topic, asked(text), f"scene+{operation}", "word problem", "number", answer)
