"""Short facts. Payload: {"any": [aliases]}; case, punctuation and articles never count."""

import re
import unicodedata
from typing import Any

from tasks.judges.verifiers import register

_ARTICLES = {"a", "an", "the"}


def normalised(text: str) -> str:
    """Words in folded case without articles and punctuation, joined by single spaces."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("'", "")
    return " ".join(word for word in re.findall(r"[^\W_]+", plain) if word not in _ARTICLES)


@register("exact")
def equals(payload: Any, answer: str) -> bool:
    """The whole answer is one of the aliases."""
    return normalised(answer) in {normalised(alias) for alias in payload["any"]}


@register("contains")
def contains(payload: Any, answer: str) -> bool:
    """One of the aliases appears, as whole words."""
    text = f" {normalised(answer)} "
    return any(f" {normalised(alias)} " in text for alias in payload["any"])
