"""Multiple-choice questions: options with letters, and the verifier for the right one."""

import string
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.judges.ground_truth import verifier
from tasks.sources.base import Record

ASK = "Answer with the letter of the right option."


def options_of(record: Record, field: str, texts: Sequence[Any]) -> dict[str, str]:
    """Texts by letter, from A on."""
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not text.strip():
            record.refuse(f"{field}, option {number}", text, "a text with something in it")
    if not 2 <= len(texts) <= 10:
        record.refuse(field, texts, "2 to 10 options")
    return dict(zip(string.ascii_uppercase, (text.strip() for text in texts), strict=False))


def question_with(options: Mapping[str, str], question: str) -> str:
    lines = "\n".join(f"{letter}. {text}" for letter, text in options.items())
    return f"{question}\n\n{lines}\n\n{ASK}"


def right_option(letter: str, options: Mapping[str, str]) -> dict[str, Any]:
    """The verifier column."""
    return verifier("choice", {"letter": letter, "text": options[letter]})
