"""What of a draft is a user's turn: politeness goes, and what an assistant would say is told from what a user would.

"Thank you for the explanation! How does that compare with tea?"  →  "How does that compare with tea?"
"Sure, here are five ways to save money: 1. …"                    →  refused as "assistant_like"
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tasks.answer_checks import copied_share, similarity
from tasks.configs.dialogues import PERSONAS_FILE
from tasks.prompts.sentences import words

_WORDS: dict[str, Any] = yaml.safe_load(PERSONAS_FILE.read_text(encoding="utf-8"))["first_words"]

_POLITE = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^(?:thank you|thanks|many thanks)\b(?: so much| very much| a lot)?(?: (?:again|for|to)\b[^.!?,\n]*)?"
        r"[.!?,;:\s-]*",
        r"^(?:sure|certainly|of course|absolutely|okay|ok|great|alright)[,.!]?\s+"
        r"(?:i'd|i would|i'll|i will|i can|i am|i'm)\s+(?:be\s+)?(?:\w+\s+)?"
        r"(?:happy|glad|pleased|delighted|help|assist)[^.!?:\n]*[.!?:\s]*",
        r"^i(?:'d| would) be (?:happy|glad|delighted) to[^.!?:\n]*[.!?:\s]*",
        r"^(?:that(?:'s| is)|this is|what) (?:a |an |very |really )*"
        r"(?:great|good|helpful|interesting|useful|wonderful|amazing)\b[^.!?,\n]*[.!?,]\s*",
        r"^i (?:really )?appreciate[^.!?\n]*[.!?]\s*",
        r"^(?:great|wonderful|perfect|awesome|interesting|got it|i see|okay|ok|sure|hello|hi)(?: there)?[,.!]\s+",
        r"(?<=[.!?])\s+(?:thank you|thanks)\b[^.!?\n]*[.!?]*$",
    )
]
_LABEL = re.compile(r"^(?:user|human|me|question)\s*:\s*", re.IGNORECASE)

_ASKING, _REQUESTS = (frozenset(_WORDS[name].split()) for name in ("asking", "requests"))
_COMMON = frozenset(_WORDS["common"].split())
_ASSISTANT = re.compile(
    r"\bas an ai\b|\bthe (?:user|assistant)\b|"
    r"^(?:here (?:is|are)|here's|sure|certainly|of course|absolutely|yes,|no,|you're welcome|"
    r"i(?:'m| am) (?:sorry|glad|happy)|i apologi[sz]e|i(?:'d| would) be happy|assistant\s*:|the answer is|to answer)|"
    r"\bhow (?:can|may) i (?:help|assist) you\b|\blet me know if you\b",
    re.IGNORECASE,
)


_POINTS_BACK = re.compile(
    r"\b(?:it|this|these|those|they|them|your|instead|else|that (?:in|compare|is|work|mean|happen))\b|\bthat[?.!]?$",
    re.IGNORECASE,
)
_SAME_TWICE = re.compile(r"\b(\w+) (?:and|with|or|than|from) \1\b", re.IGNORECASE)


def strip_politeness(text: str) -> str:
    """Without thanks, praise and offers to help around what the user wants; "" where nothing else was said."""
    before, text = None, _LABEL.sub("", text.strip().strip('"“”').strip())
    while text != before:
        before = text
        for pattern in _POLITE:
            text = pattern.sub("", text).strip()
    return text[:1].upper() + text[1:]


def user_turn(text: str, finished: bool) -> str:
    """The user's message in a draft: its first paragraph without politeness, whole sentences only, "" for none.

    `finished` says that the generator ended the turn itself.
    """
    paragraph = strip_politeness(text).partition("\n")[0].strip()
    ends = [end.end() for end in re.finditer(r"[.!?][\"”')]*(?=\s|$)", paragraph)]
    if not finished:
        paragraph = paragraph[: ends[-1]] if ends else ""
    first = paragraph.partition(" ")[0].casefold().strip(",")
    return paragraph[:-1] + "?" if first in _ASKING and paragraph.endswith(".") else paragraph


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
    first = turn.partition(" ")[0].casefold().strip(",.!")
    if _ASSISTANT.search(turn) or not ("?" in turn or first in _ASKING or first in _REQUESTS):
        return "assistant_like"
    if max((copied_share(turn, answer) for answer in answers), default=0.0) >= 0.5:
        return "assistant_like"
    told = {stem for message in history for stem in _stems(message["content"])}
    return "" if _POINTS_BACK.search(turn) or told & _stems(turn) else "off_topic"


def _stems(text: str) -> set[str]:
    """First letters of the words that carry content: long enough, and none that a request begins with."""
    said = {word.casefold() for word in words(text)} - _ASKING - _REQUESTS - _COMMON
    return {word[:5] for word in said if len(word) >= 4}
