"""Answers that are one number. Payload: {"value": "12"}; the value may be a decimal or a fraction ("3/4")."""

import re
from fractions import Fraction
from typing import Any

from tasks.judges.verifiers import register

_UNITS = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten "
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
)
_TENS = re.findall(r"\w+", "twenty thirty forty fifty sixty seventy eighty ninety")
_SPELLED = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_WORD = "|".join(sorted(_SPELLED, key=len, reverse=True))
# A minus sign counts only where no digit, letter or bracket stands before it: "10-6" holds 10 and 6.
_NUMBER = re.compile(
    r"\\frac\{(?P<top>-?\d+)\}\{(?P<bottom>\d+)\}"
    r"|(?P<digits>(?<![\w).])[-−]?\d+(?:,\d{3})*(?:\.\d+)?|\d+(?:,\d{3})*(?:\.\d+)?)(?:\s*/\s*(?P<over>\d+))?"
    rf"|\b(?P<spelled>(?:{_WORD})(?:[-\s](?:{'|'.join(_UNITS[1:10])}))?)\b",
    re.IGNORECASE,
)
_FINAL = re.compile(r"####|\\boxed\{|\b(?:final answer|answer is|answer:)", re.IGNORECASE)


def final_number(answer: str) -> Fraction | None:
    """The number after the last "####", "\\boxed{" or "answer is", else the last number; None where there is none.

    Spelled numbers go up to ninety-nine, and count only where the answer has no digits ("that is the one").
    """
    for marker in list(_FINAL.finditer(answer))[-1:]:
        if found := _NUMBER.search(answer, marker.end()):
            return _value(found)
    found_all = list(_NUMBER.finditer(answer))
    in_digits = [found for found in found_all if not found["spelled"]]
    return _value((in_digits or found_all)[-1]) if found_all else None


@register("number")
def is_number(payload: Any, answer: str) -> bool:
    return final_number(answer) == Fraction(payload["value"])


def _value(found: re.Match[str]) -> Fraction | None:
    if found["spelled"]:
        return Fraction(sum(_SPELLED[word] for word in re.split(r"[-\s]", found["spelled"].lower())))
    top, bottom = (found["top"], found["bottom"]) if found["top"] else (found["digits"], found["over"] or "1")
    return Fraction(top.replace(",", "").replace("−", "-")) / int(bottom) if int(bottom) else None
