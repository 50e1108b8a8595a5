"""The live view takes what jobs print as text, whatever it holds."""

import io
from typing import get_args

import pytest
from rich.console import Console

from deployments.terminal import Terminal, clock, progress_text
from flows.events import Event, EventKind

EVENTS = (
    Event("iteration", "iteration 1"),
    Event("cached", "topics"),
    Event("queued", "rpo 1"),
    Event("started", "rpo 1"),
    Event("metrics", "rpo 1", {"step": 3, "values": {"loss": 0.25, "tokens_per_s": 10.0}}),
    Event("progress", "rpo 1", {"done": 12, "total": 48, "unit": "steps", "tokens_per_s": 1234.5}),
    Event("line", "rpo 1", {"text": "48 steps"}),
    Event("made", "rpo 1", {"seconds": 12.34}),
    Event("failed", "dpo", {"message": "no"}),
    Event("verdict", "iteration 1", {"verdict": "keep", "result": {}}),
)


def test_a_job_s_line_is_neither_markup_nor_an_escape_sequence() -> None:
    console = Console(file=io.StringIO(), width=200)
    with Terminal(console) as terminal:
        terminal(Event("line", "dialogues", {"text": "[/nope] [bold]loud[/bold] \x1b[2J"}))
    assert "dialogues: [/nope] [bold]loud[/bold] \\x1b[2J" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_every_kind_of_event_is_shown(is_terminal: bool) -> None:
    assert {event.kind for event in EVENTS} == set(get_args(EventKind))
    shown = io.StringIO()
    with Terminal(Console(file=shown, width=200, force_terminal=is_terminal, color_system=None)) as terminal:
        for event in EVENTS:
            terminal(event)
    text = shown.getvalue()
    for part in ("iteration 1", "= topics", "rpo 1: 48 steps", "12.3 s", "✗ dpo", "iteration 1: keep"):
        assert part in text
    assert ("12/48 steps" in text) is not is_terminal, "lines take the place of bars where nobody can see these"
    assert terminal.tasks == {}, "no bar is left of what ended"


def test_a_step_of_the_next_iteration_starts_afresh() -> None:
    shown = io.StringIO()
    with Terminal(Console(file=shown, width=200)) as terminal:
        for event in EVENTS:
            terminal(event)
        terminal(Event("started", "rpo 1"))
        terminal(Event("progress", "rpo 1", {"done": 1, "total": 48, "unit": "steps"}))
    first, second = (line for line in shown.getvalue().splitlines() if "/48 steps" in line)
    assert "loss 0.250" in first and "loss" not in second


def test_progress_tells_rates_and_what_is_left() -> None:
    data = {"done": 12, "total": 48, "unit": "rows", "tokens_per_s": 1234.5, "kept": 3}
    assert progress_text(data, 4.0) == "12/48 rows  3.0 rows/s  1,234 tokens/s  0:12 left"
    assert progress_text({"done": 48, "total": 48, "unit": "rows"}, 4.0) == "48/48 rows  12.0 rows/s"
    assert progress_text({"done": 8, "total": None, "unit": "rows"}, 4.0) == "8 rows  2.0 rows/s"
    assert progress_text({"done": 0, "total": 48, "unit": "rows"}, 0.0) == "0/48 rows  0.0 rows/s"
    assert (clock(61.9), clock(3600)) == ("1:01", "60:00")
