"""How the page writes numbers."""

MISSING = "–"
MINUS = "\u2212"


def percent(share: float | None) -> str:
    """0.123 as "12.3 %"."""
    return MISSING if share is None else f"{100 * share:.1f} %".replace("-", MINUS)


def signed(share: float | None) -> str:
    """A difference of shares in points: 0.05 as "+5.0"."""
    return MISSING if share is None else f"{100 * share:+.1f}".replace("-", MINUS)


def number(value: float | None) -> str:
    """Four digits that count."""
    return MISSING if value is None else f"{value:.4g}".replace("-", MINUS)


def hundredths(value: float | None) -> str:
    """3.2417 as "3.24"."""
    return MISSING if value is None else f"{value:.2f}".replace("-", MINUS)


def difference(value: float | None) -> str:
    """0.2 as "+0.20"."""
    return MISSING if value is None else f"{value:+.2f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """12 345, with thin spaces."""
    return MISSING if value is None else f"{value:,.0f}".replace(",", "\u202f").replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """12.3 s, 4 min 05 s or 2 h 07 min."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
