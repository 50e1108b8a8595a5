"""Plots as inline SVG: pure functions from numbers to markup. Colours are classes of the page's style sheet.

Every plot is drawn about 360 units wide, a phone's width, so that its text stays readable there; `viewBox` scales it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from markupsafe import Markup

from tasks.reporting.numerals import MINUS, percent, signed

WIDTH = 360.0
CONTROL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot hold."""

Points = Sequence[tuple[float, float | None]]


class Drawing:
    """An SVG in the making; every text is escaped when it is written out."""

    def __init__(self, height: float, title: str, width: float = WIDTH) -> None:
        box = f"0 0 {_place(width)} {_place(height)}"
        self.root = ElementTree.Element("svg", {"viewBox": box, "role": "img", "class": "plot"})
        self._add("title", {}, title)

    def line(self, x1: float, y1: float, x2: float, y2: float, look: str) -> None:
        self._add("line", {"x1": _place(x1), "y1": _place(y1), "x2": _place(x2), "y2": _place(y2), "class": look})

    def rect(self, x: float, y: float, width: float, height: float, look: str, hint: str = "") -> None:
        place = {"x": _place(x), "y": _place(y), "width": _place(max(width, 0.0)), "height": _place(height)}
        self._hint(self._add("rect", place | {"class": look}), hint)

    def dot(self, x: float, y: float, look: str, hint: str = "") -> None:
        self._hint(self._add("circle", {"cx": _place(x), "cy": _place(y), "r": "4", "class": look}), hint)

    def path(self, points: Sequence[tuple[float, float]], look: str) -> None:
        places = " ".join(f"{_place(x)},{_place(y)}" for x, y in points)
        self._add("polyline", {"points": places, "class": look})

    def text(self, x: float, y: float, text: str, look: str = "", anchor: str = "start") -> None:
        self._add("text", {"x": _place(x), "y": _place(y), "text-anchor": anchor, "class": look}, text)

    def markup(self) -> Markup:
        return Markup(ElementTree.tostring(self.root, encoding="unicode"))

    def _add(self, tag: str, attributes: dict[str, str], text: str = "") -> ElementTree.Element:
        child = ElementTree.SubElement(self.root, tag, attributes)
        child.text = CONTROL.sub("\ufffd", text)
        return child

    def _hint(self, element: ElementTree.Element, hint: str) -> None:
        if hint:
            ElementTree.SubElement(element, "title").text = CONTROL.sub("\ufffd", hint)


def _place(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that reach beyond both ends."""
    size = max(abs(low), abs(high))
    if high - low <= 1e-9 * max(size, 1e-6):  # flat as far as digits can show
        margin = 0.5 * (size if size > 1e-6 else 1.0)
        low, high = low - margin, high + margin
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_label(value: float) -> str:
    return f"{value:.4g}".replace("-", MINUS)


def line_plot(title: str, series: Mapping[str, Points], unit: str = "step") -> Markup:
    """Lines over training steps; a null value breaks its line. Empty markup where there is no value at all."""
    values = [y for points in series.values() for _, y in points if y is not None]
    if not values:
        return Markup("")
    steps = [x for points in series.values() for x, _ in points]
    left, right, top, bottom = 46.0, 352.0, 40.0, 164.0
    y_ticks, x_ticks = ticks(min(values), max(values)), ticks(min(0.0, *steps), max(steps), 5)
    x_last = max(steps)
    x_of = lambda x: left + (right - left) * (x - x_ticks[0]) / ((x_last - x_ticks[0]) or 1.0)  # noqa: E731
    y_of = lambda y: bottom - (bottom - top) * (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])  # noqa: E731
    drawing = Drawing(192, title)
    drawing.text(4, 14, title, "strong")
    for y in y_ticks:
        drawing.line(left, y_of(y), right, y_of(y), "grid")
        drawing.text(left - 5, y_of(y) + 3.5, tick_label(y), "tick", "end")
    for x in x_ticks:
        if x <= x_last:
            drawing.line(x_of(x), bottom, x_of(x), bottom + 3, "axis")
            drawing.text(x_of(x), bottom + 14, tick_label(x), "tick", "middle")
    drawing.line(left, bottom, right, bottom, "axis")
    drawing.text(right, bottom + 25, unit, "tick", "end")
    for number, (name, points) in enumerate(series.items()):
        draw_line(drawing, [(x_of(x), None if y is None else y_of(y)) for x, y in points], f"series{number}")
        if len(series) > 1:
            drawing.line(left + 150 * number, 27, left + 150 * number + 14, 27, f"line series{number}")
            drawing.text(left + 150 * number + 19, 30.5, name, "tick")
    return drawing.markup()


def draw_line(drawing: Drawing, places: Points, look: str) -> None:
    """One line with its gaps; a point that stands alone is a dot."""
    run: list[tuple[float, float]] = []
    for x, y in [*places, (0.0, None)]:
        if y is not None:
            run.append((x, y))
        elif run:
            drawing.dot(*run[0], f"fill {look}") if len(run) == 1 else drawing.path(run, f"line {look}")
            run = []


def paired_bars(rows: Sequence[tuple[str, float, float]], names: tuple[str, str]) -> Markup:
    """Two bars for each label, both fractions of 1."""
    row, left, right = 44.0, 4.0, 312.0
    drawing = Drawing(26 + row * len(rows), f"{names[0]} and {names[1]} by family")
    for number, name in enumerate(names):
        drawing.rect(left + 120 * number, 5, 10, 10, f"fill pair{number}")
        drawing.text(left + 120 * number + 15, 14, name, "tick")
    for number, (label, *values) in enumerate(rows):
        y = 26 + row * number
        drawing.text(left, y + 11, label)
        for place, value in enumerate(values):
            top = y + 16 + 11 * place
            drawing.rect(left, top, right - left, 9, "track")
            drawing.rect(left, top, (right - left) * value, 9, f"fill pair{place}", f"{names[place]}: {percent(value)}")
            drawing.text(right + 5, top + 8, percent(value), "tick")
    return drawing.markup()


def interval_plot(gain: float, interval: tuple[float, float], min_gain: float, detectable: float | None) -> Markup:
    """The gain with its interval, against zero, the asked gain and the smallest gain that could have been seen."""
    low, high = interval
    marks = ticks(100 * min(low, 0.0, min_gain), 100 * max(high, 0.0, min_gain, detectable or 0.0), 6)
    left, right, middle = 14.0, 346.0, 38.0
    x_of = lambda share: left + (right - left) * (100 * share - marks[0]) / (marks[-1] - marks[0])  # noqa: E731
    drawing = Drawing(104, "gain of the candidate in points, with its interval")
    for value in marks:
        drawing.line(x_of(value / 100), 18, x_of(value / 100), 58, "grid")
        drawing.text(x_of(value / 100), 71, f"{value:+.4g}" if value else "0", "tick", "middle")
    drawing.line(x_of(0), 14, x_of(0), 60, "axis")
    drawing.rect(x_of(low), middle - 4, x_of(high) - x_of(low), 8, "band")
    drawing.dot(x_of(gain), middle, "fill pair1", f"{signed(gain)} points")
    drawing.text(x_of(gain), middle - 11, signed(gain), "strong", "middle")
    legend = [("asked", min_gain, "asked for"), ("seen", detectable, "smallest it could see")]
    for number, (look, value, name) in enumerate(legend):
        if value is not None:
            drawing.line(x_of(value), 16, x_of(value), 60, look)
            drawing.line(left + 130 * number, 92, left + 130 * number + 16, 92, look)
            drawing.text(left + 130 * number + 21, 95.5, f"{name}: {signed(value)}", "tick")
    return drawing.markup()


def step_plot(rows: Sequence[tuple[str, float | None]]) -> Markup:
    """A value after each step, downwards, joined by a line."""
    values = [value for _, value in rows if value is not None]
    if not values:
        return Markup("")
    left, right, row = 118.0, 330.0, 27.0
    marks = ticks(100 * min(values), 100 * max(values))
    x_of = lambda share: left + (right - left) * (100 * share - marks[0]) / (marks[-1] - marks[0])  # noqa: E731
    bottom = 12 + row * len(rows)
    drawing = Drawing(bottom + 22, "accuracy after each step")
    for value in marks:
        drawing.line(x_of(value / 100), 8, x_of(value / 100), bottom, "grid")
        drawing.text(x_of(value / 100), bottom + 14, f"{value:.4g} %", "tick", "middle")
    places = [(x_of(v) if v is not None else 0.0, 22 + row * i if v is not None else None)
              for i, (_, v) in enumerate(rows)]  # fmt: skip
    draw_line(drawing, places, "pair1")
    for number, (label, value) in enumerate(rows):
        y = 22 + row * number
        drawing.text(4, y + 4, label)
        if value is not None:
            drawing.dot(x_of(value), y, "fill pair1" if number else "fill pair0", f"{label}: {percent(value)}")
            drawing.text(x_of(value) + 8, y - 4, f"{100 * value:.1f}", "tick")
    return drawing.markup()


def share_bar(parts: Sequence[tuple[str, str, float]]) -> Markup:
    """One thin bar of (look, hint, amount), stretched to the width that the page gives it."""
    total = sum(amount for _, _, amount in parts)
    drawing = Drawing(8, ", ".join(hint for _, hint, _ in parts), width=100)
    drawing.root.attrib.update({"class": "plot share", "preserveAspectRatio": "none"})
    x = 0.0
    for look, hint, amount in parts:
        width = 100 * amount / total if total else 0.0
        drawing.rect(x, 0, width, 8, look, hint)
        x += width
    return drawing.markup()


def time_bars(rows: Sequence[tuple[str, float, float | None, str]], total: float) -> Markup:
    """(name, seconds, seconds of work or None, what it says at its end) against the total, label above bar."""
    row, left, right = 27.0, 4.0, 356.0
    drawing = Drawing(4 + row * len(rows), "time of each job against the whole")
    longest = max([total, *(seconds for _, seconds, _, _ in rows)]) or 1.0
    for number, (name, seconds, own, text) in enumerate(rows):
        y = 4 + row * number
        drawing.text(left, y + 9, name)
        drawing.text(right, y + 9, text, "tick", "end")
        drawing.rect(left, y + 13, right - left, 8, "track")
        drawing.rect(left, y + 13, (right - left) * seconds / longest, 8, "fill pair0", f"{seconds:.1f} s")
        if own is not None:
            drawing.rect(left, y + 13, (right - left) * min(own, seconds) / longest, 8, "fill pair1", f"{own:.1f} s")
    return drawing.markup()
