"""What a server's refusal means: try again, give up this row, or stop the stage with the setting to change."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from infra.errors import InputError, StageFailed

RETRIED = frozenset({408, 409, 425, 429})
"""And all from 500 on."""
TOO_LONG = re.compile(r"\bcontext\b|too long|not fit", re.IGNORECASE)
DOES_NOT_FIT = "does not fit the model's context"
NO_MODEL = re.compile(r"\bmodel\b.{0,120}(not found|not exist|not a valid|unknown|not available)", re.IGNORECASE)
NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance")
CONTINUING = "set endpoint.continuation=ask, or =plain where the server continues an assistant's words by itself"
REMEDIES = {
    "max_tokens": "set endpoint.token_limit=max_completion_tokens, or lower the stage's max_tokens",
    "max_completion_tokens": "set endpoint.token_limit=max_tokens, or lower the stage's max_tokens",
    "n": "set endpoint.samples_per_request=1",
    "continue_final_message": CONTINUING,
    "add_generation_prompt": CONTINUING,
    "top_k": "set the stage's top_k to 0",
    "min_p": "set the stage's min_p to 0",
    "repetition_penalty": "set the stage's repetition_penalty to 1",
    "response_format": "set endpoint.leave_out='[response_format]' to ask without a shape, or take another server",
    "structured_outputs": "set endpoint.leave_out='[structured_outputs]' to ask without a shape, or take vLLM",
}
"""By field; any other one can be left out."""


class RowRefused(Exception):
    """This request cannot be answered; others can."""


class Garbled(Exception):
    """An answer that is none: the text says what was found. Another try may bring a better one."""


class FieldRefused(StageFailed):
    """The server takes no such field; `field` names it."""

    def __init__(self, field: str, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.field = field


@dataclass(frozen=True)
class Problem:
    """An error response, as far as it can be read."""

    status: int
    message: str
    """One line, cut, without the key."""
    code: str = ""
    field: str = ""

    @property
    def passes(self) -> bool:
        """Whether trying again may help."""
        return (self.status in RETRIED or self.status >= 500) and self.code not in NO_CREDIT


def read_problem(status: int, text: str) -> Problem:
    """From the shapes in which OpenAI, vLLM, FastAPI and proxies tell errors."""
    try:
        document: Any = json.loads(text)
    except ValueError:
        return Problem(status, one_line(text))
    error = document.get("error", document) if isinstance(document, dict) else document
    if not isinstance(error, dict):
        return Problem(status, one_line(error))
    message = error.get("message") or error.get("detail") or text
    code, field = (str(error.get(name) or "") for name in ("code", "param"))
    return Problem(status, one_line(message if isinstance(message, str) else json.dumps(message)), code, field)


def one_line(text: Any) -> str:
    """At most 300 characters that a terminal cannot be steered with."""
    words = "".join(letter if letter.isprintable() else " " for letter in str(text)[:2000])
    return " ".join(words.split())[:300]


def raise_for(problem: Problem, place: str, model: str, sent: Collection[str], has_key: bool) -> None:
    """Raise what ends the row (RowRefused) or the stage (InputError, StageFailed); nothing where it may pass.

    `place` is the endpoint's URL, `sent` are the names of the request's fields.
    """
    said = f": {problem.message}" if problem.message else ""
    if problem.status in (401, 403):
        raise InputError(f"{place} answers {problem.status}{said}", key_remedy(has_key))
    if problem.status == 402 or problem.code in NO_CREDIT:
        raise StageFailed(f"{place} wants to be paid ({problem.status}){said}", "add credit there, then run again")
    if problem.passes:
        return
    if 300 <= problem.status < 400:
        raise InputError(f"{place} answers with a redirect{said}", "give the URL that it leads to: none is followed")
    if problem.status == 404 or problem.code == "model_not_found" or NO_MODEL.search(problem.message):
        raise InputError(
            f"{place} has no model {model!r} under {place}/chat/completions ({problem.status}){said}",
            "correct the URL, which usually ends with /v1, or the name after #",
        )
    if problem.code == "context_length_exceeded" or TOO_LONG.search(problem.message):
        raise RowRefused(f"{DOES_NOT_FIT}{said}")
    if field := refused_field(problem, sent):
        raise FieldRefused(field, f"{place} refuses the field {field!r} ({problem.status}){said}", remedy(field))
    raise RowRefused(f"{place} answers {problem.status}{said}")


def refused_field(problem: Problem, sent: Collection[str]) -> str:
    """The field of ours that the refusal is about, "" where it names none."""
    fields = [name for name in sent if name not in ("model", "messages")]
    if problem.field in fields:
        return problem.field
    named = [name for name in fields if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", problem.message)]
    return max(named, key=len, default="")


def remedy(field: str) -> str:
    return REMEDIES.get(field, f"set endpoint.leave_out='[{field}]', and it is not sent")


def key_remedy(has_key: bool) -> str:
    if has_key:
        return "its key is wrong or may not use this model: correct RATCHET_OPENAI_API_KEY (or OPENAI_API_KEY)"
    return (
        "no key was sent: set RATCHET_OPENAI_API_KEY (or OPENAI_API_KEY) where the job runs; `ratchet run` and "
        "`ratchet up` hand down the one that they were started with, another cluster's nodes need their own"
    )
