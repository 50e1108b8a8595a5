"""Why a text is no good as a prompt: too short or long, cut off, running in circles, off its topic, reserved."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.answer_checks import copied_share, runs_in_circles
from tasks.prompts.sentences import words

MIN_WORDS, MAX_WORDS = 4, 90
MAX_COPIED = 0.4
"""Largest share of a text's four-word sequences that may stand in one example."""
_END = re.compile(r"[.!?][\"”')\]]*$")
_ASSISTANT = re.compile(
    r"\b(?:as an? (?:\w+ )*(?:AI|assistant|language model)|I(?:'m| am) an? (?:\w+ )*AI|SmolLM)\b", re.IGNORECASE
)
_NOTHING = re.compile(
    r"\bbetween (?:an? |the )?([\w ]+?) and (?:an? |the )?\1\b|\b(\w+) that (?:is|are) (?:not )?(?:an? |the )?\2\b",
    re.IGNORECASE,
)
"""A thing compared with itself, or told to be itself."""
_SMALL = frozenset(words("a an and at for from in into is of on or the to with your how what your first new"))


def flaw(text: str) -> str:
    """The reason to reject a prompt, "" for none."""
    length = len(words(text))
    reasons = {
        "too_short": length < MIN_WORDS,
        "too_long": length > MAX_WORDS,
        "unfinished": not _END.search(text) or text.count('"') % 2 == 1,
        "runs_in_circles": runs_in_circles(text),
        "speaks_as_assistant": bool(_ASSISTANT.search(text)),
        "says_nothing": bool(_NOTHING.search(text)),
    }
    return next((reason for reason, wrong in reasons.items() if wrong), "")


def copies(text: str, template: Mapping[str, Any]) -> bool:
    """Whether the text repeats an example of its template instead of following it."""
    return any(copied_share(text, shown) > MAX_COPIED for shot in template.get("shots", []) for shown in shot)


def stems(text: str) -> set[str]:
    """Words that carry content, in folded case and roughly in the singular."""
    return {_singular(word.casefold()) for word in words(text)} - _SMALL


def is_about(text: str, topic: str) -> bool:
    """Whether any word of content of the topic appears."""
    return bool(stems(text) & stems(topic))


def names(text: str, topics: Iterable[str]) -> str:
    """The first of the topics all of whose words of content appear, "" for none."""
    said = stems(text)
    return next((topic for topic in topics if stems(topic) <= said), "")


def _singular(word: str) -> str:
    for ending, instead in (("'s", ""), ("ies", "y"), ("oes", "o"), ("ches", "ch"), ("shes", "sh"), ("xes", "x")):
        if word.endswith(ending):
            return word.removesuffix(ending) + instead
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
