"""Answers in LaTeX. Payload: {"value": "\\\\frac{\\\\sqrt{3}}{2}"}: what stands in the solution's last \\boxed{}.

Two answers are equal where they are the same once spelling is out of the way (\\dfrac and \\frac, \\left, spaces,
units, "x ="), where both are the same number, or part by part within brackets. No algebra is done: x+1 and 1+x differ,
and so do the same sets in another order: an answer that is right in other words counts as wrong.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from tasks.judges.verifiers import register
from tasks.judges.verifiers.number import final_number

_BOX = re.compile(r"\\f?boxed\s*(?=\{)|\\f?boxed\s+(?P<bare>[^\s$]+)")
_MARKER = re.compile(r"####|\b(?:answer is|answer:):?", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:/\d+)?|-?\\frac\{-?\d+\}\{\d+\}")
_REWRITES: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\[dt]frac"), r"\\frac"),
    (re.compile(r"\\(?:left|right|displaystyle|[,!;:]|quad|qquad)(?![a-zA-Z])"), ""),
    (re.compile(r"\^\s*(?:\\circ|\{\\circ\})|°|\\degrees?"), ""),
    (re.compile(r"\\?%|\\?\$|~"), ""),
    (re.compile(r"\\\s|(?<=\d)\{,\}(?=\d)"), ""),
    (re.compile(r"\s+"), ""),
    (re.compile(r"\\frac(\d)(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac(\d)\{"), r"\\frac{\1}{"),
    (re.compile(r"\\frac\{([^{}]*)\}(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt(\w)"), r"\\sqrt{\1}"),
    (re.compile(r"([\^_])\{(\w)\}"), r"\1\2"),
    (re.compile(r"−"), "-"),
    (re.compile(r"^[a-zA-Z](?:\([a-z]\))?=(?!.*=)"), ""),
    (re.compile(r"(?<![\d)])\.(?=\d)"), "0."),
    (re.compile(r"(?<=\d)(?:units?|degrees?|cm|mm|km|m|inches|feet|dollars|cents|meters)(?:\^?[23])?\.?$"), ""),
    (re.compile(r"\.$"), ""),
]
"""In this order."""


def boxed(text: str) -> str | None:
    """What stands in the last \\boxed{} (or \\boxed 7), None where there is none that is closed."""
    places = [*_BOX.finditer(text)]
    if not places:
        return None
    if places[-1]["bare"]:
        return places[-1]["bare"]
    begin, depth = places[-1].end(), 0
    for place in range(begin, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if not depth:
            return text[begin + 1 : place]
    return None


def plain_number(value: str) -> Fraction | None:
    """The number that the whole LaTeX is, None for anything else."""
    text = normalised(value)
    return final_number(text.replace("-\\frac{", "\\frac{-", 1)) if _NUMBER.fullmatch(text) else None


def normalised(value: str) -> str:
    """Without what differs in spelling only."""
    for pattern, replacement in _REWRITES:
        value = pattern.sub(replacement, value)
    return value


@register("math")
def is_answer(payload: Any, answer: str) -> bool:
    return equal(final_answer(answer), payload["value"])


def final_answer(answer: str) -> str:
    """What is in the last box, else after the last "answer is", else between the last dollar signs, else all."""
    found = boxed(answer)
    if found is not None:
        return found
    for marker in [*_MARKER.finditer(answer)][-1:]:
        answer = answer[marker.end() :].strip().split("\n")[0].strip("* ")
    formulas = re.findall(r"\$([^$]+)\$", answer)
    return formulas[-1] if formulas else answer


def equal(one: str, other: str) -> bool:
    """Whether two LaTeX answers are the same value."""
    first, second = normalised(one), normalised(other)
    if first == second:
        return True
    numbers = plain_number(one), plain_number(other)
    if None not in numbers:
        return numbers[0] == numbers[1]
    parts = _parts(first), _parts(second)
    if len(parts[0]) < 2 or len(parts[0]) != len(parts[1]) or first[:1] + first[-1:] != second[:1] + second[-1:]:
        return False
    return all(equal(*pair) for pair in zip(*parts, strict=True))


def _parts(text: str) -> list[str]:
    """What commas separate within brackets around the whole: a point, an interval, a set."""
    if text[:1] not in ("(", "[") and not text.startswith("\\{"):
        return []
    return text.strip("()[]").removeprefix("\\{").removesuffix("\\}").split(",")
