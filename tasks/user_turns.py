"""What of a draft is a user's turn: politeness goes, and what an assistant would say is told from what a user would.

"Thank you for the explanation! How does that compare with tea?"  →  "How does that compare with tea?"
"Sure, here are five ways to save money: 1. …"                    →  refused as "assistant_like"
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tasks.answer_checks import copied_share, similarity
from tasks.configs.dialogues import WORDS_FILE
from tasks.politeness import strip_politeness
from tasks.prompts.sentences import sentences, words

_DATA: dict[str, Any] = yaml.safe_load(WORDS_FILE.read_text(encoding="utf-8"))
_ASKING, _AFTER, _REQUESTS, _COMMON, _ADVICE, _OF_TEXT = (
    frozenset(_DATA["first_words"][name].split())
    for name in ("asking", "asking_after", "requests", "common", "advice", "of_text")
)
_SAYS = re.compile("|".join(_DATA["assistant"]["says"].splitlines()), re.IGNORECASE)
_BEGINS = re.compile(f"^(?:{'|'.join(_DATA['assistant']['begins'].splitlines())})", re.IGNORECASE)
_ADVISES = re.compile(f"^(?:{'|'.join(_DATA['assistant']['advises'].splitlines())})", re.IGNORECASE)
_ANSWERS = re.compile(f"^(?:{'|'.join(_DATA['assistant']['answers'].splitlines())})", re.IGNORECASE)
_MARKUP = re.compile(r"\*\*|```|^#+ |^\s*(?:[-*•]|\d+[.)]) ")

_POINTS_BACK = re.compile(
    r"\b(?:it|this|these|those|they|them|your|instead|else|that (?:in|compare|is|work|mean|happen))\b|\bthat[?.!]?$|"
    r"^(?:and |but )?(?:what|how) about\b",
    re.IGNORECASE,
)
_SAME_TWICE = re.compile(r"\b(\w+) (?:and|with|or|than|from) \1\b", re.IGNORECASE)


def user_turn(text: str, finished: bool) -> str:
    """The user's message in a draft: its first paragraph without politeness, whole sentences only, "" for none.

    `finished` says that the generator ended the turn itself.
    """
    paragraph = strip_politeness(text).partition("\n")[0].strip()
    ends = [end.end() for end in re.finditer(r"[.!?][\"”')]*(?=\s|$)", paragraph)]
    if not finished:
        paragraph = paragraph[: ends[-1]] if ends else ""
    if _asks(paragraph) and not re.search(r"[?!][\"”')]*(?:\s|$)", paragraph):
        return paragraph.rstrip(".") + "?"
    return paragraph


def refusal(turn: str, history: Sequence[Mapping[str, str]]) -> str:
    """Why a draft is no next turn of the user's, "" where it is one.

    "empty": nothing but politeness, or not whole; "nonsense"; "repeats" an earlier turn; "assistant_like"; "off_topic".
    """
    if len(words(turn)) < 3:
        return "empty"
    if _SAME_TWICE.search(turn):
        return "nonsense"
    earlier = [message["content"] for message in history if message["role"] == "user"]
    answers = [message["content"] for message in history if message["role"] == "assistant"]
    if max((similarity(turn, said) for said in earlier), default=0.0) >= 0.7:
        return "repeats"
    if assistant_like(turn) or max((copied_share(turn, answer) for answer in answers), default=0.0) >= 0.5:
        return "assistant_like"
    told = {stem for message in history for stem in _stems(message["content"])}
    return "" if _POINTS_BACK.search(turn) or told & _stems(turn) else "off_topic"


def assistant_like(turn: str) -> bool:
    """Whether a turn is an answer rather than a user's: it offers help, lists, advises, explains, or answers itself."""
    if _SAYS.search(turn) or _BEGINS.search(turn) or _MARKUP.search(turn):
        return True
    if "?" not in turn:
        return _ADVISES.search(turn) is not None or _advice(turn) or not (_asks(turn) or _first(turn) in _REQUESTS)
    after = sentences(turn.rpartition("?")[2])
    return bool(after) and _ANSWERS.search(after[0]) is not None


def _first(text: str) -> str:
    return text.partition(" ")[0].casefold().strip(",.!:")


def _asks(text: str) -> bool:
    """Whether it begins as a question does: "what …", "in which …"."""
    first, _, rest = text.casefold().partition(" ")
    return first.strip(",") in _ASKING or (first in _AFTER and _first(rest) in ("which", "what", "whose", "whom"))


def _advice(text: str) -> bool:
    """Whether it tells what to do in the world ("Use hot water"), not with the text ("Use easier words")."""
    return _first(text) in _ADVICE and not {word.casefold() for word in words(text)} & _OF_TEXT


def _stems(text: str) -> set[str]:
    """First letters of the words that carry content: long enough, and none that a request begins with."""
    said = {word.casefold() for word in words(text)} - _ASKING - _REQUESTS - _COMMON
    return {word[:5] for word in said if len(word) >= 4}
