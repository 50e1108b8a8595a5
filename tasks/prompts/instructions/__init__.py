"""Verifiable instructions: kinds, each drawn, worded, verified and, where possible, repaired by code.

A check is {"kind", "params"}; an answer passes when it passes every check and holds at least MIN_WORDS words.
A new kind is a class in one of the modules beside this one, its name in kinds.py, and its wordings in wordings.yaml.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal, TypedDict

import yaml

from tasks.prompts.instructions.base import STEPS, Params
from tasks.prompts.instructions.kinds import KINDS, instruction
from tasks.prompts.sentences import sentences, words

__all__ = ["KINDS", "MIN_WORDS", "VERSION", "Asked", "Check", "Use", "ask", "draw", "repair", "verify"]

VERSION = 1
"""Raised when a check's meaning changes; rows carry it in their verifier."""

MIN_WORDS = 3
"""An answer with fewer words follows nothing: an empty one would pass most checks."""

Use = Literal["training", "evaluation"]
"""Evaluation has wordings of its own, which training never shows."""


class Check(TypedDict):
    kind: str
    params: Params


@dataclass(frozen=True)
class Asked:
    """A request with instructions, in words."""

    message: str
    plain: str
    """Asks for an answer that a repair can start from: enough sentences, no instruction."""
    checks: Sequence[Check]
    """With what depends on the request."""


@cache
def words_of(file: Literal["wordings", "forms"]) -> dict[str, Any]:
    """The YAML file of this name beside the code."""
    return yaml.safe_load((Path(__file__).parent / f"{file}.yaml").read_text(encoding="utf-8"))


def draw(kind: str, rng: Random) -> Check:
    return {"kind": kind, "params": instruction(kind).draw(rng)}


def bind(check: Check, request: str) -> Check:
    return {"kind": check["kind"], "params": instruction(check["kind"]).bind(check["params"], request)}


def ask(checks: Sequence[Check], request: str, rng: Random, use: Use) -> Asked:
    """The user's message holds the request, the instructions and a word on length, in some order."""
    checks = [bind(check, request) for check in checks]
    worded = "\n".join(word(check, rng, use) for check in checks)
    lengths = length(checks)
    plain = f"{request} {rng.choice(lengths['plain'])}"
    joined = rng.choice(words_of("forms")["joins"]).format(
        request=request, instruction=worded, length=rng.choice(lengths[use])
    )
    return Asked(tidy(joined), plain, checks)


def word(check: Check, rng: Random, use: Use) -> str:
    """One check as an instruction to a model."""
    kind = check["kind"]
    return rng.choice(words_of("wordings")[kind][use]).format(**instruction(kind).fields(check["params"]))


def length(checks: Sequence[Check]) -> dict[str, list[str]]:
    """The sentences on length that go with the checks: of the classes that they name, the one listed last."""
    named = {words_of("wordings")[check["kind"]].get("length", "short") for check in checks}
    return next(lengths for name, lengths in reversed(words_of("forms")["lengths"].items()) if name in named)


def tidy(text: str) -> str:
    """Without the spaces that an empty field leaves."""
    return re.sub(r" +(?=[ \n]|$)", "", text)


def verify(checks: Sequence[Check], answer: str) -> bool:
    answer = answer.strip()
    return len(words(answer)) >= MIN_WORDS and all(
        instruction(check["kind"]).verify(check["params"], answer) for check in checks
    )


def repair(checks: Sequence[Check], answer: str) -> str | None:
    """A plain answer changed to pass every check; None when a check has no repair or the result still fails."""
    repaired: str | None = finished(answer.strip())
    for check in sorted(checks, key=lambda check: STEPS.index(instruction(check["kind"]).step)):
        if not repaired or len(words(repaired)) < MIN_WORDS:
            return None
        repaired = instruction(check["kind"]).repair(check["params"], repaired)
    return repaired if repaired and verify(checks, repaired) else None


def finished(answer: str) -> str:
    """Without a last sentence that a token limit cut off, where others stand before it."""
    parts = sentences(answer)
    cut_off = len(parts) > 1 and not re.search(r"[.!?:;][\"”')\]*]*$", parts[-1])
    return answer[: answer.rindex(parts[-1])].rstrip() if cut_off and parts[-1] in answer else answer
