"""Who the user of a dialogue can be, and how the generator is asked to go on in that user's place."""

from random import Random

import pytest

from infra.errors import InputError
from models.chat import render
from models.tokenizer import Tokenizer
from tasks.follow_ups import PERSONAS, choose, opened_turn


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_personas_are_drawn_by_name_and_unknown_ones_named() -> None:
    drawn = {choose(("critic", "parent"), Random(seed)).name for seed in range(20)}
    assert drawn == {"critic", "parent"}
    assert {choose((), Random(seed)).name for seed in range(300)} == set(PERSONAS)
    with pytest.raises(InputError, match=r"unknown personas \['pirate'\].*beginner, "):
        choose(("critic", "pirate"), Random(0))


def test_every_persona_tells_its_manner_and_opens_turns_of_its_own() -> None:
    assert {persona.variant for persona in PERSONAS.values()} == {"normal", "complex", "concise"}
    for persona in PERSONAS.values():
        assert persona.manner in persona.note() and persona.manner in persona.request([user("Hi")])
        assert len(set(persona.openings)) == 3 and "{" not in persona.note() + persona.request([user("Hi")])


def test_an_opened_turn_ends_with_the_opening_words(small_tokenizer: Tokenizer) -> None:
    told = [user("How is coffee made?"), assistant("With water.")]
    text = small_tokenizer.decode(opened_turn(small_tokenizer, "Be kind.", told, "What about"), False)
    begun = render(small_tokenizer, [{"role": "system", "content": "Be kind."}, *told])
    assert text == begun + "<|im_start|>user\nWhat about"
