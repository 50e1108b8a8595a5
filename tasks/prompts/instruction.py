"""Verifiable instructions, single-turn (paper, section 3.2): the generator's request and an instruction code can check.

The verifier's payload keeps the request without the instruction ("plain"): an aid may start from an answer to that.
"""

from random import Random

from tasks.judges.ground_truth import verifier
from tasks.prompts import instructions, open_qa, writing
from tasks.prompts.family import Conversation, Draft, Job, Topic, template

TEMPLATE = template("instruction")


def write(job: Job) -> Conversation:
    """Kinds take turns over the requests, so that each has its share."""
    tasks = round(job.wanted * TEMPLATE["writing_share"])
    requests = yield from open_qa.draft(job, job.wanted - tasks)
    if tasks:
        short = yield from writing.draft(job, tasks, writing.TEMPLATE["short_documents"])
        requests = [*requests[: job.wanted - tasks], *short]
    job.rng.shuffle(requests)
    kinds = job.rng.sample(job.config.kinds, len(job.config.kinds))
    return [
        _instructed(topic, request, kinds[turn % len(kinds)], job.rng)
        for turn, (topic, request) in enumerate(requests[: job.wanted])
    ]


def _instructed(topic: Topic, request: str, kind: str, rng: Random) -> Draft:
    check = instructions.draw(kind, rng)
    message, plain = instructions.ask(check, request, rng, "training")
    payload = {"checks": [check], "plain": plain}
    return Draft(topic, message, f"single_turn:{kind}", verifier("instruction", payload))
