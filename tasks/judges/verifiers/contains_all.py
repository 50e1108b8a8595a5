"""Lists of short facts. Payload: {"all": ["Bangkok, Thailand", "12,467"]}; order, case and punctuation never count.

A fact that is a number is found as a number: "12,467" in "12467", and not in "112,467".
"""

import re
from fractions import Fraction
from typing import Any

from tasks.judges.verifiers import register
from tasks.judges.verifiers.text import normalised

NUMBER = re.compile(r"[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")


@register("contains_all")
def contains_all(payload: Any, answer: str) -> bool:
    text = f" {normalised(answer)} "
    numbers = {value_of(found[0]) for found in re.finditer(rf"(?<![\w.]){NUMBER.pattern}(?!\w)", answer)}
    return all(_holds(answer, text, numbers, fact) for fact in payload["all"])


def value_of(digits: str) -> Fraction:
    """Of a number with or without thousands separators."""
    return Fraction(digits.strip().replace(",", "").replace("−", "-"))


def _holds(answer: str, text: str, numbers: set[Fraction], fact: str) -> bool:
    """`text` is the normalised answer. A fact that is nothing but an article or a sign is looked for as it is."""
    if NUMBER.fullmatch(fact.strip()):
        return value_of(fact) in numbers
    if words := normalised(fact):
        return f" {words} " in text
    return bool(re.search(rf"(?<!\w){re.escape(fact.strip())}(?!\w)", answer))
