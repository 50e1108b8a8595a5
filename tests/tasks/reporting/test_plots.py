"""Plots: well-formed whatever they are given, and where the numbers say."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.losses import rpo_loss
from tasks.reporting.numerals import count, duration, number, percent, signed
from tasks.reporting.plots import interval_plot, line_plot, paired_bars, share_bar, step_plot, ticks, time_bars
from tasks.reporting.training import PANELS

FINITE = st.floats(-1e9, 1e9)
SVG = "{http://www.w3.org/2000/svg}"


def parsed(markup):
    return ElementTree.fromstring(str(markup))


@given(FINITE, FINITE)
def test_ticks_reach_beyond_both_ends_and_are_few(one, other):
    low, high = min(one, other), max(one, other)
    found = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1e-9)
    assert found[0] <= low + slack and found[-1] >= high - slack
    assert 2 <= len(found) <= 8 and all(a < b for a, b in pairwise(found))


@given(st.text(), st.lists(st.tuples(st.integers(0, 10**6), st.none() | FINITE), max_size=20))
def test_lines_are_well_formed_for_any_name_and_values(name, points):
    markup = line_plot(name, {name: sorted(points, key=lambda point: point[0])})
    if any(value is not None for _, value in points):
        parsed(markup)
    else:
        assert markup == ""


def test_a_skipped_step_breaks_the_line():
    svg = parsed(line_plot("loss", {"loss": [(1, 3.0), (2, 2.0), (3, None), (4, 1.5), (5, 1.0)]}))
    assert len(svg.findall("polyline")) == 2
    alone = parsed(line_plot("loss", {"loss": [(1, 3.0), (2, None), (3, 2.0)]}))
    assert len(alone.findall("circle")) == 2


def test_several_lines_have_a_legend_and_colours_of_their_own():
    svg = parsed(line_plot("gap", {"policy gap": [(1, 0.0), (2, 1.0)], "reward gap": [(1, 2.0), (2, 2.0)]}))
    assert [line.get("class") for line in svg.findall("polyline")] == ["line series0", "line series1"]
    assert {"policy gap", "reward gap"} <= {text.text for text in svg.findall("text")}


def test_bars_are_as_long_as_their_values():
    svg = parsed(paired_bars([("maths", 0.25, 0.5)], ("generator", "candidate")))
    widths = {
        bar.get("class"): float(bar.get("width", 0)) for bar in svg.findall("rect") if bar.find("title") is not None
    }
    assert widths["fill pair1"] == pytest.approx(2 * widths["fill pair0"])


def test_the_interval_stands_left_of_zero_where_it_is_negative():
    svg = parsed(interval_plot(-0.1, (-0.2, -0.05), 0.01, 0.04))
    band = next(bar for bar in svg.findall("rect") if bar.get("class") == "band")
    zero = next(line for line in svg.findall("line") if line.get("class") == "axis")
    assert float(band.get("x", 0)) + float(band.get("width", 0)) < float(zero.get("x1", 0))


def test_shares_fill_the_bar_and_nothing_is_an_empty_one():
    svg = parsed(share_bar([("fill pair1", "kept 3", 3.0), ("fill drop0", "dropped 1", 1.0)]))
    assert [float(bar.get("width", 0)) for bar in svg.findall("rect")] == [75, 25]
    assert [float(bar.get("width", 0)) for bar in parsed(share_bar([("fill", "kept 0", 0.0)])).findall("rect")] == [0]


def test_steps_without_a_value_are_named_and_times_never_leave_the_plot():
    svg = parsed(step_plot([("generator", 0.5), ("general sft", None), ("dpo", 0.7)]))
    assert "general sft" in {text.text for text in svg.findall("text")} and len(svg.findall("circle")) == 4
    bars = parsed(time_bars([("train", 90.0, 120.0, "1 min 30 s"), ("report", 1.0, None, "1.0 s")], 60.0))
    assert all(float(bar.get("x", 0)) + float(bar.get("width", 0)) <= 360 for bar in bars.findall("rect"))


def test_panels_name_metrics_that_the_losses_give():
    values = torch.zeros(2)
    _, metrics = rpo_loss(values, values, values, values, values, values, beta=0.1, eta=1.0)
    named = {metric for panel in PANELS.values() for metric in panel} - {"loss", "validation_loss"}
    assert named <= metrics.keys()


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (percent, 0.1234, "12.3 %"), (percent, None, "–"), (signed, -0.05, "−5.0"), (signed, 0.05, "+5.0"),
        (number, 0.000123456, "0.0001235"), (count, 1234567, "1\u202f234\u202f567"), (duration, 59.94, "59.9 s"),
        (duration, 125, "2 min 05 s"), (duration, 7620, "2 h 07 min"), (duration, None, "–"),
    ],
)  # fmt: skip
def test_numbers_read_well(write, value, text):
    assert write(value) == text
