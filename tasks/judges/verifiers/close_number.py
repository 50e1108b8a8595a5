"""Answers that are one number, near enough. Payload: {"any": ["0.0523", "5.23"], "tolerance": "0.05"}.

The tolerance is relative to the value; a value of 0 wants 0. `any` holds one amount in the units that an answer may use
(a share and its percentage). Powers of ten count: "3.2 \\times 10^{5}", "3.2e5" and "3.2 × 10⁵" are 320,000.
"""

import re
from fractions import Fraction
from typing import Any

from tasks.judges.verifiers import register
from tasks.judges.verifiers.number import final_number

_POWER = re.compile(
    r"(?P<digits>\d[\d,]*(?:\.\d+)?)"
    r"(?:\s*(?:\\times|\\cdot|[×·⋅*x])\s*10\s*(?:\^|\*\*)\s*\{?\s*(?P<power>[-+]?\d{1,3})\s*\}?|[eE](?P<e>[-+]?\d{1,3}))"
    r"(?![\d.]*\d)"
)
_RAISED = re.compile("[⁺⁻⁰¹²³⁴-⁹]+")
_LOWERED = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_MINUS_FRACTION = re.compile(r"(?<![\w)\]}])(?<![\w)\]}] )-\s*\\[dt]?frac\{")
_SPACING = re.compile(r"\\[!,;: ]|\{,\}")


@register("close_number")
def is_close(payload: Any, answer: str) -> bool:
    found = final_number(plain_numbers(answer))
    if found is None:
        return False
    values = [Fraction(value) for value in payload["any"]]
    return any(abs(found - value) <= Fraction(payload["tolerance"]) * abs(value) for value in values)


def plain_numbers(text: str) -> str:
    """The text with its powers of ten written out and LaTeX's spacing inside numbers taken away."""
    lowered = _RAISED.sub(lambda found: "^" + found[0].translate(_LOWERED), text)
    joined = _SPACING.sub(lambda found: "," if found[0] == "{,}" else "", lowered.replace("−", "-"))
    return _POWER.sub(_written_out, _MINUS_FRACTION.sub(r"\\frac{-", joined))


def _written_out(found: re.Match[str]) -> str:
    power = int(found["power"] or found["e"])
    value = Fraction(found["digits"].replace(",", "")) * Fraction(10) ** power
    return f"{value.numerator}/{value.denominator}" if value.denominator > 1 else str(value.numerator)
