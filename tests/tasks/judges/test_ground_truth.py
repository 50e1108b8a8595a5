"""Verdicts on answers as models write them."""

from fractions import Fraction

import pytest

from infra.errors import InputError
from tasks.judges.ground_truth import verifier, verify
from tasks.judges.verifiers import CHECKERS, register
from tasks.judges.verifiers.number import final_number
from tasks.rows import canonical


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("The answer is 12.", 12),
        ("Bruno lost 11 marbles, so he had 15 - 11 = 2 marbles left.", 2),
        ("10-6 = 4", 4),
        ("She has $1,234.50 left", Fraction(2469, 2)),
        ("It fell to -5 degrees", -5),
        ("It fell to −5", -5),
        (r"So \boxed{\frac{3}{4}} of it", Fraction(3, 4)),
        ("3/4 of a cup", Fraction(3, 4)),
        ("Janet has seven apples.", 7),
        ("Twenty-five children", 25),
        ("She has 7 apples, and that is the one.", 7),
        ("#### 42\nI hope these 2 lines help", 42),
        ("The answer is 15 apples (5*3).", 15),
        ("The answer is seven, since 3 + 4 = 7.", 7),
        ("12.0", 12),
        ("**9**", 9),
        ('{"answer": 9}', 9),
        ("It costs 5.", 5),
        ("", None),
        ("No idea", None),
        ("1/0", None),
    ],
)
def test_final_number(answer: str, value: int | Fraction | None) -> None:
    assert final_number(answer) == value


def test_number_verdicts() -> None:
    twelve = verifier("number", {"value": "12"})
    assert verify(twelve, "There are 20 ducks, 20 - 8 = 12.0 are left.") is True
    assert verify(twelve, "12 ducks and 8 more make 20.") is False
    assert verify(twelve, "Many ducks.") is False


def test_facts_count_case_articles_and_punctuation_for_nothing() -> None:
    river = verifier("contains", {"any": ["the Nile", "Amazon River"]})
    assert verify(river, "It's the NILE, in Africa.") is True
    assert verify(river, "The amazon  river!") is True
    assert verify(river, "Juvenile rivers of the Amazon") is False
    assert verify(verifier("contains", {"any": ["8"]}), "A spider has 18 legs") is False
    assert verify(verifier("contains", {"any": ["H2O"]}), "Its formula is H₂O.") is True
    assert verify(verifier("exact", {"any": ["mice"]}), "Mice.") is True
    assert verify(verifier("exact", {"any": ["mice"]}), "The plural is mice.") is False


def test_instruction_verdicts_come_from_its_checks() -> None:
    checks = [{"kind": "lower_case", "params": {}}, {"kind": "max_words", "params": {"n": 5}}]
    both = verifier("instruction", {"checks": checks, "plain": "What is a reef?"})
    assert verify(both, "a reef is old.") is True
    assert verify(both, "A reef is old.") is False
    assert verify(both, "a reef is a very old thing.") is False


def test_a_row_without_verifier_cannot_be_judged() -> None:
    assert verify(None, "anything") is None
    assert verify({"kind": "", "version": 0, "payload": ""}, "anything") is None


def test_unknown_kinds_and_later_versions_are_refused() -> None:
    with pytest.raises(InputError, match=r"'taste'.*contains.*number"):
        verifier("taste", {})
    later = verifier("number", {"value": "1"}) | {"version": 99}
    with pytest.raises(InputError, match="version 99"):
        verify(later, "1")


def test_a_new_kind_registers_once() -> None:
    register("parity", version=3)(lambda payload, answer: len(answer) % 2 == payload["rest"])
    try:
        row = verifier("parity", {"rest": 1})
        assert row == {"kind": "parity", "version": 3, "payload": canonical({"rest": 1})}
        assert verify(row, "abc") is True and verify(row, "ab") is False
        with pytest.raises(ValueError, match="parity"):
            register("parity")(lambda payload, answer: True)
    finally:
        del CHECKERS["parity"]
