"""Who the user of a dialogue can be, and how the generator is asked to go on in that user's place."""

from random import Random
from typing import get_args

import pytest
from pydantic import ValidationError

from infra.errors import InputError
from models.chat import render
from models.tokenizer import Tokenizer
from tasks.configs.dialogues import DialoguesConfig, Variant
from tasks.follow_ups import PERSONAS, User, choose, opened_turn
from tasks.politeness import strip_politeness
from tasks.user_turns import assistant_like


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_personas_are_drawn_by_name_and_unknown_ones_named() -> None:
    some = DialoguesConfig(personas=("critic", "parent"))
    assert {choose(some, Random(seed)).persona.name for seed in range(20)} == {"critic", "parent"}
    anyone = [choose(DialoguesConfig(), Random(seed)) for seed in range(1000)]
    assert {one.persona.name for one in anyone} == set(PERSONAS) and len(PERSONAS) >= 30
    with pytest.raises(InputError, match=r"unknown personas \['pirate'\].*beginner, "):
        choose(DialoguesConfig(personas=("critic", "pirate")), Random(0))


def test_variants_are_drawn_by_their_shares_in_whatever_order_they_are_written() -> None:
    shares = {"normal": 1.0, "complex": 3.0, "concise": 0.0}
    config = DialoguesConfig(variants=shares)  # type: ignore[arg-type]
    drawn = [choose(config, Random(seed)) for seed in range(1000)]
    assert 0.7 < sum(one.variant == "complex" for one in drawn) / 1000 < 0.8
    assert {one.variant for one in drawn} == {"normal", "complex"}
    turned = DialoguesConfig(variants=dict(reversed(shares.items())))  # type: ignore[arg-type]
    assert [choose(turned, Random(seed)) for seed in range(1000)] == drawn


@pytest.mark.parametrize("shares", [{}, {"normal": 0.0}, {"normal": 1.0, "complex": -0.5}, {"rude": 1.0}])
def test_shares_that_draw_nothing_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="variants"):
        DialoguesConfig(variants=shares)  # type: ignore[arg-type]


def test_drafts_that_would_be_equal_are_refused() -> None:
    with pytest.raises(ValidationError, match="user_samples is 3 at user_temperature 0"):
        DialoguesConfig(user_samples=3)
    assert DialoguesConfig(user_samples=3, user_temperature=0.7).user_samples == 3


EVERYONE = [User(persona, variant) for persona in PERSONAS.values() for variant in get_args(Variant)]


def test_every_user_tells_its_manner_and_opens_turns_of_its_own() -> None:
    for one in EVERYONE:
        manner, note, request = one.persona.manner, one.note(), one.request([user("Hi")])
        assert manner in note and manner in request and "{" not in note + request
        assert len(set(one.openings)) == 3
    openings = [opening for one in EVERYONE for opening in one.openings]
    assert len(set(openings)) == len(openings) >= 270
    assert len({one.note() for one in EVERYONE}) == len(EVERYONE) == 3 * len(PERSONAS)


def test_openings_begin_as_users_do() -> None:
    for opening in (opening for one in EVERYONE for opening in one.openings):
        whole = f"{opening} coffee"
        assert strip_politeness(whole) == whole and not assistant_like(whole), whole


def test_an_opened_turn_ends_with_the_opening_words(small_tokenizer: Tokenizer) -> None:
    told = [user("How is coffee made?"), assistant("With water.")]
    text = small_tokenizer.decode(opened_turn(small_tokenizer, "Be kind.", told, "What about"), False)
    begun = render(small_tokenizer, [{"role": "system", "content": "Be kind."}, *told])
    assert text == begun + "<|im_start|>user\nWhat about"
