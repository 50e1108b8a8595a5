"""Second-turn prompts: the generator answers a plain request, and is asked to revise that answer."""

from collections.abc import Sequence

from tasks.answer_checks import runs_in_circles
from tasks.prompts.family import Job
from tasks.prompts.instructions import Asked, ask, finished, verify
from tasks.prompts.instructions.drafting import SAY, Drafts, Request, Turns, draft
from tasks.prompts.instructions.forms import revise
from tasks.prompts.sentences import words

REDRAWS = 5
"""Other instructions to try where the answer follows the one that was drawn already."""
MIN_WORDS = 5
"""Of an answer worth revising."""


def second_turns(job: Job, turns: Turns, requests: Sequence[Request]) -> Drafts:
    """One prompt for each request with an answer that can be revised."""
    asked = [ask(turns.draw("second_turn"), request, job.rng, "training") for _, request in requests]
    answers = (yield [job.ask(SAY, message=one.plain) for one in asked]) if asked else []
    drafts = []
    for (topic, request), one, said in zip(requests, asked, answers, strict=True):
        answer = said.text if said.finished else finished(said.text)
        unfinished = not said.finished and answer == said.text
        new = _not_yet_followed(job, turns, one, request, answer)
        if unfinished or runs_in_circles(answer) or len(words(answer)) < MIN_WORDS:
            job.reject("draft_poor", said.text)
        elif new is None:
            job.reject("draft_follows", answer)
        else:
            said_so_far = [
                ("user", one.plain),
                ("assistant", answer),
                ("user", revise(new.checks, job.rng, "training")),
            ]
            messages = [{"role": role, "content": text} for role, text in said_so_far]
            drafts.append(draft(topic, messages, new, "second_turn", first_answer=answer))
    return drafts


def _not_yet_followed(job: Job, turns: Turns, asked: Asked, request: str, answer: str) -> Asked | None:
    """What was drawn or, where the answer follows that already, something else."""
    for _ in range(REDRAWS):
        if not verify(asked.checks, answer):
            return asked
        asked = ask(turns.draw("second_turn"), request, job.rng, "training")
    return None
