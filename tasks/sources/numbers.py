"""Numbers as data sets write them."""

import re
from fractions import Fraction

from tasks.sources.base import Record

LONGEST = 400
"""Characters; a double has fewer digits, however it is written."""
_LARGE = re.compile(r"[eE][+-]?[\d_]{4}")
"""An exponent beyond any double's, which takes seconds to expand."""


def number_of(record: Record, *names: str) -> Fraction:
    """A field that is a number, or a text that is one."""
    found = record.get(*names)
    value = as_number(str(found)) if isinstance(found, str | int | float) and not isinstance(found, bool) else None
    if value is None:
        record.refuse(" or ".join(names), found, "a number")
    return value


def as_number(text: str) -> Fraction | None:
    """The number that is the whole text, such as " +65.49", "$89,034.79$", "−2" or "3/4"; None for anything else."""
    plain = text.strip().strip("$").replace(",", "").replace("−", "-")
    if len(plain) > LONGEST or _LARGE.search(plain):
        return None
    try:
        return Fraction(plain)
    except (ValueError, ZeroDivisionError):
        return None
