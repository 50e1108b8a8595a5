"""The user's turns of a dialogue: who the user is, and how the generator is asked for the next turn.

A small model that is asked "what would the user say next?" answers the question itself. It does better when it goes on
with the user's message after the chat template's opening of a user turn, begun with a few words of the persona's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import yaml

from infra.errors import InputError
from models.chat import render
from models.tokenizer import Tokenizer
from tasks.configs.dialogues import PERSONAS_FILE

Messages = Sequence[Mapping[str, str]]

_TEMPLATES: dict[str, Any] = yaml.safe_load(PERSONAS_FILE.read_text(encoding="utf-8"))
_CUT = "\N{SECTION SIGN}\N{SECTION SIGN}"
"""Stands for the user's text while the template is rendered; no template writes it."""


@dataclass(frozen=True)
class Persona:
    name: str
    manner: str
    variant: str
    openings: tuple[str, ...]

    def note(self) -> str:
        """The system message that shows the persona to a generator that goes on with the user's turn."""
        return _TEMPLATES["system"].format(manner=self.manner, variant=_TEMPLATES["variants"][self.variant])

    def request(self, history: Messages) -> str:
        """The prompt that shows the dialogue and asks for this persona's follow-up."""
        told = "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in history)
        return _TEMPLATES["instruct"][self.variant].format(history=told, manner=self.manner)


PERSONAS = {
    entry["name"]: Persona(entry["name"], entry["manner"], entry["variant"], tuple(entry["openings"]))
    for entry in _TEMPLATES["personas"]
}


def choose(names: Sequence[str], rng: Random) -> Persona:
    """One of the named personas, or of all. Raises InputError for a name that personas.yaml does not have."""
    unknown = [name for name in names if name not in PERSONAS]
    if unknown:
        raise InputError(f"unknown personas {unknown}", f"known: {', '.join(PERSONAS)}")
    return PERSONAS[rng.choice([*names] or [*PERSONAS])]


def opened_turn(tokenizer: Tokenizer, note: str, history: Messages, opening: str) -> list[int]:
    """Token ids of the dialogue up to the opening words of the user's next turn."""
    messages = [{"role": "system", "content": note}, *history, {"role": "user", "content": _CUT}]
    return tokenizer.encode(render(tokenizer, messages).partition(_CUT)[0] + opening)


def swapped_roles(note: str, history: Messages, opening: str) -> list[dict[str, str]]:
    """The dialogue seen from the user's side, which goes on from `opening`, where the chat template is out of reach.

    What the user said stands as the assistant's and the other way round, after the note as a first user message, so
    that the roles alternate as every server expects.
    """
    other = {"user": "assistant", "assistant": "user"}
    said = [
        {"role": other[message["role"]], "content": message["content"]}
        for message in history
        if message["role"] in other
    ]
    return [{"role": "user", "content": note}, *said, {"role": "assistant", "content": opening}]
