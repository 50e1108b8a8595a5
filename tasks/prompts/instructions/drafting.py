"""What the three forms share: whose turn it is among the kinds, and how a prompt becomes a draft."""

from collections.abc import Generator, Mapping, Sequence
from itertools import cycle
from typing import Any

from tasks.answer_checks import runs_in_circles
from tasks.generation import Ask
from tasks.judges.ground_truth import verifier
from tasks.prompts.calls import Answer
from tasks.prompts.family import Draft, Job, Topic
from tasks.prompts.instructions import Asked, Check, draw
from tasks.prompts.instructions.base import FORMS, Form
from tasks.prompts.instructions.combining import draw_compatible
from tasks.prompts.instructions.kinds import instruction, kinds_for

Drafts = Generator[list[Ask], list[Answer], list[Draft]]
Request = tuple[Topic, str]
SAY: Mapping[str, Any] = {"user": "{message}"}
"""A call without examples (tasks/prompts/calls.py)."""


class Turns:
    """Kinds take turns within each form, so that each has its share."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.kinds = {form: kinds_for(form, job.config.kinds) for form in FORMS}
        self.order = {form: cycle(job.rng.sample(kinds, len(kinds))) for form, kinds in self.kinds.items()}

    def draw(self, form: Form) -> list[Check]:
        """The checks of one prompt."""
        rng, most = self.job.rng, self.job.config.instructions_per_prompt
        kinds = draw_compatible(self.kinds[form], rng.randint(1, most), rng, first=next(self.order[form]))
        return [draw(kind, rng) for kind in kinds]


def draft(
    topic: Topic, messages: Sequence[Mapping[str, str]], asked: Asked, form: Form, first_answer: str = "", **more: Any
) -> Draft:
    """`first_answer` is the one to revise; `more` goes to the draft's details."""
    kinds = [check["kind"] for check in asked.checks]
    payload = {"checks": [*asked.checks], "plain": asked.plain, "form": form}
    if first_answer:
        payload["draft"] = first_answer
    formats = [instruction(kind).answer_format for kind in kinds]
    return Draft(
        topic,
        messages,
        f"{form}:{'+'.join(kinds)}",
        task="+".join(kinds),
        answer_format=next((one for one in formats if one != "paragraph"), "paragraph"),
        verifier=verifier("instruction", payload),
        details={"form": form, **more},
    )


def usable(said: Answer) -> bool:
    """Whether an answer came to its end and does not run in circles."""
    return said.finished and not runs_in_circles(said.text)
