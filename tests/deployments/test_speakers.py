"""One model's answer appears while it is written; control characters of it never reach the terminal."""

import io
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from deployments.readable import HIDDEN, KEPT, harmless
from deployments.speakers import converse, open_speaker, print_answers
from models.checkpoint import load_model
from models.engine import Engine, SamplingParams
from models.engine.live import LiveEngine

WILD = SamplingParams(temperature=1.5, max_tokens=60, seed=4)


class Screen(io.StringIO):
    """A terminal that remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)


def test_an_answer_appears_as_it_is_written(model_folder: Callable[..., Path]) -> None:
    speaker, screen = open_speaker("m", model_folder()), Screen()
    print_answers([speaker], "Hi", WILD, Console(file=screen, highlight=False, width=20))
    expected = Engine(*load_model(model_folder())).generate([[{"role": "user", "content": "Hi"}]], WILD)[0].text
    assert screen.getvalue() == harmless(expected) + "\n"
    assert len([text for text in screen.writes if text]) > 10, "it came in few parts"
    assert harmless(expected) != expected, "the test needs an answer with control characters"
    assert not any(unicodedata.category(letter) in HIDDEN and letter not in KEPT for letter in screen.getvalue())
    assert speaker.history[-1] == {"role": "assistant", "content": expected}


def test_ctrl_c_in_an_answer_ends_it(model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    speaker, opened = open_speaker("m", model_folder()), []
    monkeypatch.setattr(
        "deployments.speakers.LiveEngine", lambda engine: opened.append(LiveEngine(engine)) or opened[0]
    )

    class Interrupted(Screen):
        def write(self, text: str) -> int:
            if len(self.writes) > 3:
                raise KeyboardInterrupt
            return super().write(text)

    with pytest.raises(KeyboardInterrupt):
        converse([speaker], WILD, lambda: "Hi", Console(file=Interrupted()))
    assert not opened[0].running and speaker.engine.scheduler.idle and speaker.history == []
