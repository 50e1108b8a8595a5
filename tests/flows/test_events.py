"""Who listens hears everything inside its block, and nothing after it."""

import pytest

from flows.events import Event, listening, publish


def test_every_listener_hears_every_event_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    publish(Event("cached", "before"))
    with listening(first.append):
        publish(Event("started", "one"))
        with listening(second.append):
            publish(Event("progress", "one", {"done": 1}))
        publish(Event("made", "one"))
    publish(Event("cached", "after"))
    assert [event.kind for event in first] == ["started", "progress", "made"]
    assert second == [Event("progress", "one", {"done": 1})]


def test_a_listener_leaves_also_when_its_block_fails() -> None:
    heard: list[Event] = []
    with pytest.raises(KeyError), listening(heard.append):
        raise KeyError
    publish(Event("cached", "after"))
    assert heard == []


def test_a_listener_may_leave_while_an_event_is_delivered() -> None:
    heard: list[str] = []

    def once(event: Event) -> None:
        heard.append(event.label)
        block.__exit__(None, None, None)

    block = listening(once)
    block.__enter__()
    with listening(lambda event: heard.append("other")):
        publish(Event("cached", "x"))
        publish(Event("cached", "y"))
    assert heard == ["x", "other", "other"]
