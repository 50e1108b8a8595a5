"""Models that answer a person, one or two at a time, each with its own memory of the conversation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.readable import harmless
from infra.errors import InputError
from models.checkpoint import load_model
from models.engine import Engine, SamplingParams

RESET = "/reset"


@dataclass
class Speaker:
    """One model and what it and the person have said."""

    name: str
    engine: Engine
    history: list[dict[str, str]] = field(default_factory=list)

    def answer(self, text: str, params: SamplingParams) -> dict[str, Any]:
        """What the model says next. Raises InputError where it cannot answer; then nothing is remembered."""
        asked = [*self.history, {"role": "user", "content": text}]
        try:
            (result,) = self.engine.generate([asked], params)
        except ValueError as error:
            raise InputError(f"{self.name} cannot answer: {error}", "give a model with a chat template") from error
        if result.error:
            raise InputError(f"{self.name} cannot answer: {result.error}", f"shorten it, or start anew with {RESET}")
        self.history = [*asked, {"role": "assistant", "content": result.text}]
        return {
            "model": self.name,
            "answer": result.text,
            "tokens": len(result.token_ids),
            "finish_reason": result.finish_reason,
        }


def open_speaker(name: str, folder: Path) -> Speaker:
    """Load a model, onto the GPU where there is one. Raises InputError where the folder holds none."""
    try:
        model, tokenizer = load_model(folder)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{name} is no model that can be opened: {error}", "give a language model") from error
    return Speaker(name, Engine(model.to("cuda") if torch.cuda.is_available() else model, tokenizer))


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
                print_answers(console, [speaker.answer(text, ours) for speaker in speakers])
            except InputError as error:
                console.print(Text(harmless(error), style="red"))
            turn += 1


def print_answers(console: Console, answers: Sequence[dict[str, Any]]) -> None:
    """One answer as it is; two in columns, under their models' names."""
    if len(answers) == 1:
        console.print(Text(harmless(answers[0]["answer"])), soft_wrap=True)
        return
    table = Table(expand=True)
    for entry in answers:
        table.add_column(Text(harmless(entry["model"])), ratio=1, overflow="fold")
    table.add_row(*(Text(harmless(entry["answer"])) for entry in answers))
    console.print(table)
