"""The live view takes what jobs print as text, whatever it holds."""

import io

from rich.console import Console

from deployments.terminal import Terminal
from flows.events import Event


def test_a_job_s_line_is_neither_markup_nor_an_escape_sequence() -> None:
    console = Console(file=io.StringIO(), width=200)
    with Terminal(console) as terminal:
        terminal(Event("line", "dialogues", {"text": "[/nope] [bold]loud[/bold] \x1b[2J"}))
    assert "dialogues: [/nope] [bold]loud[/bold] \\x1b[2J" in console.file.getvalue()  # type: ignore[attr-defined]
