"""What happens in a run, as it happens: the terminal, and whoever else wants to watch, subscribes here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

EventKind = Literal[
    "iteration", "cached", "queued", "started", "progress", "line", "metrics", "made", "failed", "verdict"
]


@dataclass(frozen=True)
class Event:
    """`label` is the step's (or "iteration N"); `data` what the kind carries, e.g. done, total and unit of progress."""

    kind: EventKind
    label: str
    data: dict[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]
_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Deliver every event to `listener` inside this block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def publish(event: Event) -> None:
    """Deliver to all listeners, in the thread that follows the job."""
    for listener in list(_listeners):
        listener(event)
