"""First exchanges of prompts with several turns: the generator answers the user's first turn as it answers anybody."""

import re
from collections.abc import Mapping, Sequence

from models.engine import SamplingParams
from tasks.answer_checks import runs_in_circles, whole_sentences
from tasks.generation import Ask
from tasks.prompts.calls import Answer
from tasks.prompts.family import Job
from tasks.prompts.sentences import words

_ROLE = re.compile(r"^(?:user|human|assistant|smol\w*|ai|bot|s|a|q)\s*:", re.IGNORECASE | re.MULTILINE)
MIN_WORDS = 8
"""Of an answer that a user can go on from."""


def replies(job: Job, conversations: Sequence[Sequence[Mapping[str, str]]], max_tokens: int) -> list[Ask]:
    """Calls that answer each conversation's last turn."""
    config = job.config
    params = SamplingParams(temperature=config.temperature, top_p=config.top_p, max_tokens=max_tokens)
    return [
        Ask(f"{job.prefix}/{job.family}/reply/{number}", messages, params)
        for number, messages in enumerate(conversations, start=1)
    ]


def said(answer: Answer) -> str:
    """Its whole sentences, all of it where the generator ended by itself."""
    return answer.text if answer.finished else whole_sentences(answer.text)


def reply_fault(text: str) -> str:
    """Why nobody can go on from an answer, "" where one can."""
    if len(words(text)) < MIN_WORDS:
        return "too_short"
    if _ROLE.search(text):
        return "plays_roles"
    return "runs_in_circles" if runs_in_circles(text) else ""
