"""Models that answer a person, one or two at a time, each with its own memory of the conversation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.in_process import open_engine
from deployments.readable import harmless
from infra.errors import InputError
from models.engine import Completion, Engine, SamplingParams
from models.engine.live import LiveEngine, Refused

RESET = "/reset"


def _silent(text: str) -> None:
    """Where nobody listens while the answer is written."""


@dataclass
class Speaker:
    """One model and what it and the person have said."""

    name: str
    engine: Engine
    history: list[dict[str, str]] = field(default_factory=list)

    def answer(self, text: str, params: SamplingParams, say: Callable[[str], None] = _silent) -> dict[str, Any]:
        """What the model says next; `say` gets it part by part, as it is written.

        Raises InputError where it cannot answer; then nothing is remembered.
        """
        asked = [*self.history, {"role": "user", "content": text}]
        try:
            completion = self._complete(self.engine.encode(asked), params, say)
        except Refused as error:
            raise InputError(
                f"{self.name} cannot answer: {error}", f"shorten it, or start anew with {RESET}"
            ) from error
        except ValueError as error:
            raise InputError(f"{self.name} cannot answer: {error}", "give a model with a chat template") from error
        self.history = [*asked, {"role": "assistant", "content": completion.text}]
        return {
            "model": self.name,
            "answer": completion.text,
            "tokens": len(completion.token_ids),
            "finish_reason": completion.finish_reason,
        }

    def _complete(self, prompt: Sequence[int], params: SamplingParams, say: Callable[[str], None]) -> Completion:
        completion = None
        with LiveEngine(self.engine) as live:
            for increment in live.stream(prompt, params):
                say(increment.text)
                completion = increment.completion
        assert completion is not None, "the last increment holds the completion"
        return completion


def open_speaker(name: str, folder: Path) -> Speaker:
    """Load a model. Raises InputError where the folder holds none."""
    return Speaker(name, open_engine(name, folder))


def converse(speakers: Sequence[Speaker], params: SamplingParams, read: Callable[[], str], console: Console) -> None:
    """Question and answer until `read` raises EOFError; each turn draws from another seed."""
    turn = 0
    while True:
        try:
            text = read().strip()
        except EOFError:
            console.print()
            return
        if text == RESET:
            for speaker in speakers:
                speaker.history.clear()
            console.print("[dim]forgotten[/dim]")
        elif text:
            try:
                ours = replace(params, seed=params.seed + turn)
                print_answers(speakers, text, ours, console)
            except InputError as error:
                console.print(Text(harmless(error), style="red"))
            turn += 1


def print_answers(speakers: Sequence[Speaker], text: str, params: SamplingParams, console: Console) -> None:
    """One model's answer as it is written; two in columns when both are whole, under their models' names."""
    if len(speakers) == 1:
        speakers[0].answer(text, params, lambda part: console.out(harmless(part), end="", highlight=False))
        console.out()
        return
    answers = [speaker.answer(text, params) for speaker in speakers]
    table = Table(expand=True)
    for entry in answers:
        table.add_column(Text(harmless(entry["model"])), ratio=1, overflow="fold")
    table.add_row(*(Text(harmless(entry["answer"])) for entry in answers))
    console.print(table)
