"""The LLM judge: its arithmetic on chosen log-probabilities, and the real small model on plain cases."""

import math

import pytest

from infra.errors import InputError
from models.chat import encode_prompt
from models.checkpoint import load_model
from models.engine import Engine
from tasks.configs.judging import JudgingConfig
from tasks.judges.base import Pair, Verdict
from tasks.judges.llm import LEAD, LETTERS, REMEDY, LLMJudge, question, verdict_of
from tasks.judges.words import word_ids, word_logprobs


@pytest.mark.parametrize(
    ("straight", "swapped", "choice"),
    [
        ((-0.1, -2.0), (-2.0, -0.1), "first"),  # A, then B: the same answer both times
        ((-2.0, -0.1), (-0.1, -2.0), "second"),
        ((-0.1, -2.0), (-0.1, -2.0), None),  # always A: a seat, not an answer
        ((-2.0, -0.1), (-2.0, -0.1), None),
        ((-1.0, -1.0), (-2.0, -0.1), None),
        (None, (-1.0, -2.0), None),
    ],
)
def test_only_verdicts_that_follow_the_answer_count(straight, swapped, choice):
    assert verdict_of(straight, swapped).choice == choice


def test_letter_mass_is_the_probability_of_either_letter():
    detail = verdict_of((math.log(0.5), math.log(0.3)), (math.log(0.2), math.log(0.4))).detail
    assert detail["letter_mass"] == pytest.approx(0.7)
    assert detail["log_odds"] == pytest.approx((math.log(5 / 3), math.log(2)))


def test_calibration_counts_flips_and_seats(response):
    long, short = response("p", "one two three four"), response("p", "one")
    odds = [(1.0, 1.0), (2.0, -1.0), (3.0, -2.0), (-1.0, -1.0)]
    verdicts = [verdict_of((first, 0.0), (0.0, second)) for first, second in odds]
    pairs = [Pair(long, short), Pair(long, short), Pair(short, long), Pair(short, long)]
    report = LLMJudge(JudgingConfig(), pytest.fail).calibrate(pairs, verdicts)
    assert report["consistent"] == 2 and report["flip_rate"] == 0.5
    assert report["first_seat_share"] == pytest.approx(6 / 8)  # both seats A in the two flips, one A in each verdict
    assert report["length"] == {"pairs": 2, "longer_wins": 1.0}
    assert report["length_correlation"] > 0


def test_pairs_that_do_not_fit_are_counted(response):
    pair = Pair(response("p", "a"), response("p", "b"))
    assert LLMJudge(JudgingConfig(), pytest.fail).calibrate([pair], [Verdict(None)]) == {"pairs": 1, "too_long": 1}


def test_the_question_shows_history_and_ends_where_the_letter_is_due(response, tokenizer):
    rows = [response("p", text) for text in ("FIRST", "SECOND")]
    history = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "?"},
    ]
    messages = question(rows[0] | {"prompt": history}, rows[1])
    text = messages[0]["content"]
    assert "user: Hi\nassistant: Ho\nuser: ?" in text and text.index("FIRST") < text.index("SECOND")
    assert tokenizer.decode(encode_prompt(tokenizer, messages)).endswith(LEAD)


def test_a_tokenizer_without_the_letters_is_refused(tiny_model, tokenizer):
    model, _ = load_model(tiny_model().folder())
    engine = Engine(model, tokenizer)
    assert len(word_ids(engine.tokenizer, LETTERS, REMEDY)) == 2
    engine.tokenizer = type("NoLetters", (), {"encode": lambda self, text: [0], "decode": lambda self, ids: "<unk>"})()
    with pytest.raises(InputError, match="llm_pairs"):
        word_logprobs(engine, [], LETTERS, REMEDY)


def test_too_long_pairs_have_no_opinion(tiny_model, response):
    model, tokenizer = load_model(tiny_model().folder())
    judge = LLMJudge(JudgingConfig(), lambda: Engine(model, tokenizer))
    fits = Pair(response("p", "yes"), response("p", "no"))
    long = Pair(response("p", "yes " * 400), response("p", "no"))
    verdicts = judge.compare([long, fits])
    assert verdicts[0] == Verdict(None) and "log_odds" in verdicts[1].detail


def test_swapping_the_pair_swaps_the_verdict(tiny_model, response):
    model, tokenizer = load_model(tiny_model().folder())
    judge = LLMJudge(JudgingConfig(), lambda: Engine(model, tokenizer))
    rows = [response("p", text) for text in ("an apple a day", "zebras run")]
    straight, swapped = judge.compare([Pair(*rows), Pair(*rows[::-1])])
    assert straight.detail["log_odds"] == pytest.approx(
        [-value for value in reversed(swapped.detail["log_odds"])], abs=1e-4
    )


def test_the_real_model_understands_the_question_and_sees_word_salad(smollm_folder, response):
    """SmolLM2 prefers a seat in most pairs; what it says in both orders is right more often than not."""
    judge = LLMJudge(JudgingConfig(), lambda: Engine(*load_model(smollm_folder)))
    request = "What do the lungs do?"
    good = "The lungs take oxygen from the air into the blood and remove carbon dioxide from it."
    salad = "Air blood it the remove lungs and into from the oxygen carbon take dioxide the from."
    (verdict,) = judge.compare([Pair(response(request, good), response(request, salad))])
    assert verdict.detail["letter_mass"] > 0.7 and verdict.choice in ("first", None)
    assert sum(verdict.detail["log_odds"]) > 0
