"""The user's turns of a dialogue: who the user is, and how the generator is asked for the next turn.

A user is a persona, out of a table, that speaks in one of the paper's three variants; both are drawn by seed.

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
from tasks.configs.dialogues import PERSONAS_FILE, DialoguesConfig, Variant

Messages = Sequence[Mapping[str, str]]

_TEMPLATES: dict[str, Any] = yaml.safe_load(PERSONAS_FILE.read_text(encoding="utf-8"))
_CUT = "\N{SECTION SIGN}\N{SECTION SIGN}"
"""Stands for the user's text while the template is rendered; no template writes it."""


@dataclass(frozen=True)
class Persona:
    name: str
    manner: str
    openings: Mapping[str, tuple[str, ...]]
    """By variant."""


@dataclass(frozen=True)
class User:
    """A persona who speaks in one variant."""

    persona: Persona
    variant: Variant

    @property
    def openings(self) -> tuple[str, ...]:
        return self.persona.openings[self.variant]

    def note(self) -> str:
        """The system message that shows the user to a generator that goes on with the user's turn."""
        return _TEMPLATES["system"].format(manner=self.persona.manner, variant=_TEMPLATES["variants"][self.variant])

    def request(self, history: Messages) -> str:
        """The prompt that shows the dialogue and asks for this user's follow-up."""
        told = "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in history)
        return _TEMPLATES["instruct"][self.variant].format(history=told, manner=self.persona.manner)


PERSONAS = {
    entry["name"]: Persona(
        entry["name"], entry["manner"], {variant: tuple(entry[variant]) for variant in _TEMPLATES["variants"]}
    )
    for entry in _TEMPLATES["personas"]
}


def choose(config: DialoguesConfig, rng: Random) -> User:
    """One of the named personas, or of all, in a variant as often as its share says.

    Raises InputError for a name that personas.yaml does not have.
    """
    unknown = [name for name in config.personas if name not in PERSONAS]
    if unknown:
        raise InputError(f"unknown personas {unknown}", f"known: {', '.join(PERSONAS)}")
    persona = PERSONAS[rng.choice([*config.personas] or [*PERSONAS])]
    variants = sorted(config.variants)  # equal settings may be written in any order
    (variant,) = rng.choices(variants, [config.variants[name] for name in variants])
    return User(persona, variant)


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
