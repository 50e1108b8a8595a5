"""What a person sees while the wheel turns: a line for each finished stage, a bar for the one at work. On stderr."""

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from deployments.readable import harmless
from flows.events import Event

PLAIN_EVERY_S = 10.0
"""Seconds between progress lines where stderr is no terminal."""


class Terminal:
    """A listener of `flows.events`. Used as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("  [cyan]{task.description:<26}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.tasks: dict[str, TaskID] = {}
        self.started: dict[str, float] = {}
        self.said: dict[str, float] = {}
        self.curve: dict[str, str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "Terminal":
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            getattr(self, f"_on_{event.kind}")(event.label, event.data)

    def _on_iteration(self, label: str, data: dict) -> None:
        self.console.print(f"\n[bold]{label}[/bold]  {data.get('text', '')}", highlight=False)

    def _on_queued(self, label: str, data: dict) -> None:
        pass  # most wait less than a second; a bar appears once the stage starts

    def _on_cached(self, label: str, data: dict) -> None:
        self.console.print(f"  [dim]= {label:<26} cached[/dim]", highlight=False)

    def _on_started(self, label: str, data: dict) -> None:
        self.started[label] = time.monotonic()
        self._task(label, "starting")

    def _task(self, label: str, text: str) -> TaskID:
        if label not in self.tasks:
            self.tasks[label] = self.progress.add_task(label, total=None, text=text)
        return self.tasks[label]

    def _on_progress(self, label: str, data: dict) -> None:
        text = progress_text(data, time.monotonic() - self.started.get(label, time.monotonic()))
        text += self.curve.get(label, "")
        self.progress.update(self._task(label, text), completed=data["done"], total=data["total"], text=text)
        if not self.console.is_terminal and time.monotonic() - self.said.get(label, 0.0) > PLAIN_EVERY_S:
            self.said[label] = time.monotonic()
            self.console.print(f"  · {label:<26} {text}", highlight=False)

    def _on_metrics(self, label: str, data: dict) -> None:
        loss = data["values"].get("loss")
        if loss is not None:
            self.curve[label] = f"  loss {loss:.3f}"

    def _on_made(self, label: str, data: dict) -> None:
        self._drop(label)
        self.console.print(f"  [green]✓[/green] {label:<26} {data['seconds']:6.1f} s", highlight=False)

    def _on_failed(self, label: str, data: dict) -> None:
        self._drop(label)
        self.console.print(f"  [red]✗[/red] {label:<26} failed", highlight=False)

    def _on_line(self, label: str, data: dict) -> None:
        self.console.print(Text(f"    {label}: {harmless(data['text'])}", style="dim"))

    def _on_verdict(self, label: str, data: dict) -> None:
        self.console.print(f"  [bold]{label}: {data['verdict']}[/bold]  {data.get('text', '')}", highlight=False)

    def _drop(self, label: str) -> None:
        """The next iteration's step of this name starts afresh."""
        self.curve.pop(label, None)
        self.said.pop(label, None)
        if label in self.tasks:
            self.progress.remove_task(self.tasks.pop(label))


def progress_text(data: dict, elapsed: float) -> str:
    """ "12/48 rows  3.1 rows/s  0:11 left"; "12 rows  3.1 rows/s" where the total is not known."""
    done, total, unit = data["done"], data["total"], data["unit"]
    rate = done / elapsed if elapsed > 0 else 0.0
    left = f"  {clock((total - done) / rate)} left" if rate > 0 and (total or 0) > done else ""
    known = "" if total is None else f"/{total:,.0f}"
    extra = "".join(f"  {value:,.0f} {name.replace('_per_s', '/s')}" for name, value in rates(data).items())
    return f"{done:,.0f}{known} {unit}  {rate:,.1f} {unit}/s{extra}{left}"


def rates(data: dict) -> dict[str, float]:
    """Further rates that a stage tells, such as tokens_per_s."""
    return {key: value for key, value in data.items() if key.endswith("_per_s") and isinstance(value, int | float)}


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
