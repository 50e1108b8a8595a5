"""Every drawn question is understood and solved; what is not well formed is not."""

import random

import pytest

from tasks.world.grammar import FAMILIES, OPEN, draw, is_reserved, parse, solve
from tasks.world.items import closed_families


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reserved", [False, True])
def test_drawn_questions_parse_back_to_themselves(family: str, reserved: bool) -> None:
    rng = random.Random(1)
    for _ in range(200):
        question = draw(rng, family, reserved)
        assert parse(family, question.text) == question
        assert is_reserved(question.text) == reserved
        assert (question.answer is None) == (family == OPEN)


@pytest.mark.parametrize(
    ("family", "text", "answer"),
    [
        ("sums", "what is 3 plus 4 ?", "7"),
        ("sums", "what is 9 plus 9 ?", "18"),
        ("larger", "which is larger 3 or 18 ?", "18"),
        ("larger", "which is larger 8 or 8 ?", None),
        ("lookup", "tom has a ball and ann has a cup . who has the cup ?", "ann"),
        ("lookup", "tom has a ball and ann has a ball . who has the ball ?", None),
        ("lookup", "tom has a ball and ann has a cup . who has the key ?", None),
        ("reverse", "reverse red cat sun", "sun cat red"),
        ("sort", "sort 15 2 8", "2 8 15"),
        ("times", "write cat 3 times", "cat cat cat"),
        ("quotes", "put red cat in quotes", '" red cat "'),
        ("recall", "remember that tom likes tea / what does tom like ?", "tea"),
        ("recall", "remember that tom likes tea / what does ann like ?", None),
        ("sums", "what is three plus 4 ?", None),
        ("repeat", "repeat red zebra", None),
    ],
)
def test_answers(family: str, text: str, answer: str | None) -> None:
    assert solve(family, text) == answer


def test_two_turn_questions_become_three_messages() -> None:
    question = parse("recall", "remember that tom likes tea / what does tom like ?")
    assert question is not None
    assert [message["role"] for message in question.turns()] == ["user", "assistant", "user"]


def test_every_closed_family_can_be_checked() -> None:
    assert set(closed_families()) == set(FAMILIES) - {OPEN}
