"""Verdicts of the checkers that the public data sets' readers use, on answers as models write them."""

import pytest

from tasks.judges.ground_truth import verifier, verify

RIGHT = [
    "B", "B.", "(B)", "[B]", "**B**", "B) quit eating lunch out", "B. quit eating lunch out", "Answer: B",
    "The answer is B.", "The correct answer is (B), since it saves money.", "The answer is: **B**",
    "answer: b is wrong, so Answer: B", r"So the answer is $\boxed{B}$.", r"\boxed{\text{B}}", "#### B",
    "Option B is correct.", "B because it saves the most.", "I weighed A and C first.\n\nB",
    "Option A costs money, so I pick option B.", "quit eating lunch out", "Quit eating lunch out.",
    "The answer is quit eating lunch out.", "Answer: A? No.\nAnswer: B", "The answer is option B.", "My choice: B",
]  # fmt: skip
WRONG = [
    "", "A", "C.", "A or B", "B and C", "(A), (B)", "The answer is not clear.", "The answer is A, not option B.",
    "A plan to quit eating lunch out", "A person who eats B vitamins", "have lunch with friends", "Answer: B or C",
    "B12 is a vitamin.", "B's friends", "The answer is C.\nOption B is cheaper, though.", "I do not know.",
]  # fmt: skip


@pytest.mark.parametrize("answer", RIGHT)
def test_a_right_choice_passes(answer):
    assert verify(verifier("choice", {"letter": "B", "text": "quit eating lunch out"}), answer) is True


@pytest.mark.parametrize("answer", WRONG)
def test_a_wrong_or_unclear_choice_fails(answer):
    assert verify(verifier("choice", {"letter": "B", "text": "quit eating lunch out"}), answer) is False


def test_the_letter_a_is_no_article():
    first = verifier("choice", {"letter": "A", "text": "a magnet"})
    assert all(verify(first, answer) for answer in ("A", "A.", "A magnet", "A because it pulls.", "The answer is A"))
    assert not any(verify(first, answer) for answer in ("A piece of wood", "The answer is a spoon", "Answer: A spoon"))


@pytest.mark.parametrize(
    ("values", "answer", "passes"),
    [
        (["50.7"], "The answer is 50.7 atm.", True),
        (["50.7"], "about 52", True),
        (["50.7"], "about 54", False),
        (["-214"], "-210 MJ", True),
        (["-214"], "214 MJ", False),
        (["0"], "0", True),
        (["0"], "0.01", False),
        (["4160000"], r"\boxed{4.16 \times 10^{6}}", True),
        (["4160000"], "4.2e6 m", True),
        (["4160000"], "4.16 × 10⁶", True),
        (["4160000"], "4.16 x 10^5", False),
        (["0.0000301"], "3.01*10^-5 rad", True),
        (["-0.0000301"], r"-3.01 \times 10^{-5}", True),
        (["2", "2000000"], "2", True),
        (["2", "2000000"], "2 × 10^6 m", True),
        (["0.0523", "5.23"], "It grew by 5.2%", True),
        (["0.0523", "5.23"], "The answer is 0.052", True),
        (["0.0523", "5.23"], "52.3%", False),
        (["40000"], r"The answer is $40,\!000$.", True),
        (["1100"], "The answer is 1{,}110.", True),
        (["-1/2"], r"The answer is $-\frac{1}{2}$.", True),
        (["-1/2"], r"$-\dfrac{1}{2}$", True),
        (["1/2"], r"1 - \frac{1}{2}", True),
        (["12"], "I cannot tell", False),
    ],
)
def test_numbers_near_enough(values, answer, passes):
    assert verify(verifier("close_number", {"any": values, "tolerance": "0.05"}), answer) is passes


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        ("Yes", True), ("yes, it did.", True), ("**Yes**", True), ("No", False), ("Nothing", False),
        ("Revenue rose, no doubt. The answer is yes.", True), ("Yes at first. Answer: no", False), ("It did.", False),
    ],
)  # fmt: skip
def test_yes_and_no(answer, passes):
    assert verify(verifier("yes_no", {"answer": "yes"}), answer) is passes


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        ("Bangkok, Thailand and 12467", True), ("12,467 came to bangkok, Thailand.", True),
        ("Bangkok, Thailand", False), ("Bangkok, Thailand, 112,467", False), ("12,467 in Bangkok", False), ("", False),
    ],
)  # fmt: skip
def test_every_fact_of_a_list_is_wanted(answer, passes):
    assert verify(verifier("contains_all", {"all": ["Bangkok, Thailand", "12,467"]}), answer) is passes


def test_a_fact_may_be_a_mere_article():
    plug = verifier("contains_all", {"all": ["A", "NEMA 1-15"]})
    assert verify(plug, "Types A and NEMA 1-15") is True
    assert verify(plug, "A type of NEMA 5-15") is False and verify(plug, "Types B and NEMA 1-15") is False
