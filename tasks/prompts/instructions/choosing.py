"""Which sentences and words of a plain answer a repair keeps or takes up."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from tasks.prompts.sentences import sentences

T = TypeVar("T")
_MARKER = re.compile(r"^(?:[-*•>]|\d{1,2}[.)])\s+")


def leading(answer: str, fits: Callable[[str], bool]) -> str | None:
    """As many whole sentences from the start as fit; None where not even the first does."""
    kept = ""
    for sentence in sentences(answer):
        if not fits(longer := f"{kept} {sentence}".strip()):
            break
        kept = longer
    return kept or None


def without(answer: str, wrong: Callable[[str], bool]) -> str | None:
    """The answer without its wrong sentences; None where all are."""
    parts = sentences(answer)
    kept = [part for part in parts if not wrong(part)]
    return answer if len(kept) == len(parts) else " ".join(kept) or None


def points(answer: str) -> list[str]:
    """Its sentences without list markers."""
    return [_MARKER.sub("", part) for part in sentences(answer)]


def shares(parts: Sequence[T], n: int) -> list[Sequence[T]]:
    """`n` runs of equal length, the first ones longer by one where it does not come out even; none for fewer parts."""
    if len(parts) < n:
        return []
    each, over = divmod(len(parts), n)
    ends = [each * (number + 1) + min(number + 1, over) for number in range(n)]
    return [parts[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def content_words(answer: str) -> list[str]:
    """Long words, once each: they carry the content."""
    return list(dict.fromkeys(re.findall(r"\b[A-Za-z]{6,}\b", answer)))


def joined_to(opening: str, sentence: str) -> str:
    """A sentence that goes on from opening words."""
    is_own_name = sentence.startswith(("I ", "I'"))
    return f"{opening} {sentence if is_own_name else sentence[:1].lower() + sentence[1:]}"
