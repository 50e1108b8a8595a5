"""Verifiable instructions: a registry of kinds, each drawn, worded, verified and, where possible, repaired by code.

A check is {"kind", "params"}; an answer passes when it passes every check and holds at least MIN_WORDS words.
A new kind is a class in one of the modules beside this one, its name here, and its wordings in wordings.yaml.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal, TypedDict

import yaml

from infra.errors import InputError
from tasks.prompts.instructions.base import Instruction, Params
from tasks.prompts.instructions.letters import Capitals, Exclamations, Highlight, LowerCase, NoCommas
from tasks.prompts.instructions.phrases import EndPhrase, Keyword, Postscript, Signature, StartPhrase
from tasks.prompts.instructions.shape import Bullets, MaxWords, Numbered, OneSentence, QuotedLines, TwoParts
from tasks.prompts.instructions.wrapping import AnswerTags, Json, Quotes, SquareBrackets, Title
from tasks.prompts.sentences import sentences, words

VERSION = 1
"""Raised when a check's meaning changes; rows carry it in their verifier."""

MIN_WORDS = 3
"""An answer with fewer words follows nothing: an empty one would pass most checks."""

KINDS: dict[str, Instruction] = {
    instruction.kind: instruction
    for instruction in (
        LowerCase(), Capitals(), NoCommas(), Exclamations(), Highlight(),
        Quotes(), SquareBrackets(), AnswerTags(), Json(), Title(),
        EndPhrase(), StartPhrase(), Postscript(), Signature(), Keyword(),
        Bullets(), Numbered(), TwoParts(), OneSentence(), MaxWords(), QuotedLines(),
    )
}  # fmt: skip

_WORDINGS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "wordings.yaml").read_text(encoding="utf-8"))

Use = Literal["training", "evaluation"]
"""Evaluation has wordings of its own, which training never shows."""


class Check(TypedDict):
    kind: str
    params: Params


def instruction(kind: str) -> Instruction:
    """Raises InputError for a kind that nobody registered."""
    if kind not in KINDS:
        raise InputError(f"unknown instruction kind {kind!r}", f"known kinds: {', '.join(sorted(KINDS))}")
    return KINDS[kind]


def draw(kind: str, rng: Random) -> Check:
    return {"kind": kind, "params": instruction(kind).draw(rng)}


def ask(check: Check, request: str, rng: Random, use: Use) -> tuple[str, str]:
    """The user's message (request, instruction and a word on length, in some order), and a plain one.

    The plain message asks for an answer that a repair can start from: enough sentences, no instruction.
    """
    kind, params = check["kind"], check["params"]
    wording = rng.choice(_WORDINGS["kinds"][kind][use]).format(**params)
    lengths = _WORDINGS["lengths"][_WORDINGS["kinds"][kind].get("length", "short")]
    plain = f"{request} {rng.choice(lengths['plain'])}"
    joined = rng.choice(_WORDINGS["joins"]).format(
        request=request, instruction=wording, length=rng.choice(lengths[use])
    )
    return re.sub(r" +(?=[ \n]|$)", "", joined), plain


def verify(checks: Sequence[Check], answer: str) -> bool:
    answer = answer.strip()
    return len(words(answer)) >= MIN_WORDS and all(
        instruction(check["kind"]).verify(check["params"], answer) for check in checks
    )


def repair(checks: Sequence[Check], answer: str) -> str | None:
    """A plain answer changed to pass every check; None when a check has no repair or the result still fails."""
    repaired: str | None = _finished(answer.strip())
    for check in checks:
        if not repaired or len(words(repaired)) < MIN_WORDS:
            return None
        repaired = instruction(check["kind"]).repair(check["params"], repaired)
    return repaired if repaired and verify(checks, repaired) else None


def _finished(answer: str) -> str:
    """Without a last sentence that a token limit cut off, where others stand before it."""
    parts = sentences(answer)
    cut_off = len(parts) > 1 and not re.search(r"[.!?:;][\"”')\]*]*$", parts[-1])
    return answer[: answer.rindex(parts[-1])].rstrip() if cut_off and parts[-1] in answer else answer
