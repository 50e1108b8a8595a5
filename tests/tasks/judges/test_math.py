"""Answers in LaTeX: what counts as the same, and where in an answer it stands."""

import pytest

from tasks.judges.ground_truth import verifier, verify
from tasks.judges.verifiers.math import boxed, equal, final_answer, plain_number


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\\dfrac12", "\\frac{1}{2}"),
        ("\\tfrac{1}{2}", "0.5"),
        ("-\\frac{3}{4}", "-0.75"),
        ("\\frac{-3}{4}", "-\\frac34"),
        (".5", "0.50"),
        ("10{,}000", "10,000"),
        ("10,\\!000", "10000"),
        ("x = 5", "5"),
        ("f(x) = x^2", "x^{2}"),
        ("\\left(1, \\frac12\\right)", "(1,0.5)"),
        ("\\{1, 2\\}", "\\{ 1,2 \\}"),
        ("\\sqrt2", "\\sqrt{2}"),
        ("\\text{east}", "east"),
        ("90^\\circ", "90"),
        ("5\\text{ cm}^2", "5"),
        ("\\$12.50", "12.5"),
        ("75\\%", "75"),
        ("$x$.", "x"),
    ],
)
def test_other_spellings_are_equal(one, other):
    assert equal(one, other) and equal(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\\frac{1}{2}", "\\frac{1}{3}"),
        ("[1,2)", "(1,2)"),
        ("(1,2)", "(1,2,3)"),
        ("(1,2)", "(2,1)"),
        ("-3", "3"),
        ("x+1", "1+x"),
        ("", "3"),
        ("12", "1,2"),
        ("x^2", "x_2"),
    ],
)
def test_other_values_and_other_words_differ(one, other):
    assert not equal(one, other) and not equal(other, one)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("First $\\boxed{1}$, then $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("So \\boxed{\\{1, \\{2\\}\\}}", "\\{1, \\{2\\}\\}"),
        ("\\boxed 7$", "7"),
        ("\\fbox{7} and \\boxed{8", None),
        ("nothing", None),
    ],
)
def test_the_last_box(answer, found):
    assert boxed(answer) == found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Since $y=2$, the answer is $x^2$.", "x^2"),
        ("The answer is: **3/4**", "3/4"),
        ("So we get $a$ and $b+1$", "b+1"),
        ("#### x+1\nbye", "x+1"),
        ("x+1", "x+1"),
    ],
)
def test_where_an_answer_stands_without_a_box(answer, found):
    assert final_answer(answer) == found


def test_numbers_are_whole_texts():
    assert plain_number("1,234") == 1234 and plain_number("-\\frac{3}{4}") == plain_number("-0.75")
    assert plain_number("3x") is plain_number("1,2") is plain_number("") is None


def test_a_row_is_judged():
    check = verifier("math", {"value": "\\frac{3}{4}"})
    assert verify(check, "Thus \\boxed{0.75}.") is True
    assert verify(check, "The answer is 3/4.") is True
    assert verify(check, "Thus \\boxed{\\frac{4}{3}}, not \\frac{3}{4}.") is False
    assert verify(check, "I don't know.") is False
