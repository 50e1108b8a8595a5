"""Numbers as data sets write them."""

from fractions import Fraction

from tasks.sources.base import Record


def number_of(record: Record, *names: str) -> Fraction:
    """A field that is a number, or a text that is one."""
    found = record.get(*names)
    value = as_number(str(found)) if isinstance(found, str | int | float) and not isinstance(found, bool) else None
    if value is None:
        record.refuse(" or ".join(names), found, "a number")
    return value


def as_number(text: str) -> Fraction | None:
    """The number that is the whole text, such as " +65.49", "$89,034.79$", "−2" or "3/4"; None for anything else."""
    try:
        return Fraction(text.strip().strip("$").replace(",", "").replace("−", "-"))
    except (ValueError, ZeroDivisionError):
        return None
