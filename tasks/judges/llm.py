"""The generator as a judge: which of two answers is better, read off the probabilities of the letters A and B.

Small models prefer a seat to an answer, so each pair is shown in both orders and only a verdict that follows the answer
counts. Nothing is parsed: the verdict is the likelier letter, and how much probability the two letters have together
says whether the model understood the question at all.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import correlation, mean
from typing import Any

from models.engine import Generator
from tasks.configs.judging import JudgingConfig
from tasks.engines.abilities import NoLogprobs
from tasks.judges.base import Pair, Verdict, length_bias
from tasks.judges.words import word_logprobs

LETTERS = (" A", " B")
"""As they follow LEAD."""
QUESTION = """Here are a request and two answers to it.

Request:
{request}

Answer A:
{a}

Answer B:
{b}

Which answer is more helpful and more correct? Reply with the letter only: A or B."""
LEAD = "The better answer is Answer"
"""Opens the judge's reply, so that the next token is a letter."""
REMEDY = "set judging.llm_pairs and judging.llm_truth_pairs to 0, or judge with another model"


class LLMJudge:
    """Pairwise verdicts from log-probabilities, in both orders."""

    costly = True

    def __init__(self, config: JudgingConfig, open_engine: Callable[[], Generator]) -> None:
        del config
        self.open_engine = open_engine
        self.silence = ""
        """Why it has no opinion on anything."""

    def compare(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Verdicts with detail "log_odds" (of the first answer, first then second order) and "letter_mass" (of both).

        A pair that does not fit the context, or that an order cannot be judged on, has no opinion; nor has any pair
        where the model tells no log-probabilities, which the calibration then says.
        """
        if not pairs:
            return []
        orders = [order for pair in pairs for order in ((pair.first, pair.second), (pair.second, pair.first))]
        asked = [question(first, second) for first, second in orders]
        try:
            seats = word_logprobs(self.open_engine(), asked, LETTERS, REMEDY)
        except NoLogprobs as error:
            self.silence = str(error)
            return [Verdict(None)] * len(pairs)
        return [verdict_of(seats[i], seats[i + 1]) for i in range(0, len(seats), 2)]

    def calibrate(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> dict[str, Any]:
        """Flip rate, share of the first seat, bias for length and for own answers, probability on the letters."""
        if self.silence:
            return {"pairs": len(pairs), "consistent": 0, "silence": self.silence}
        judged = [(pair, verdict) for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.detail]
        report: dict[str, Any] = {"pairs": len(pairs), "too_long": len(pairs) - len(judged)}
        if not judged:
            return report
        odds = [verdict.detail["log_odds"] for _, verdict in judged]
        seats = [value > 0 for first, second in odds for value in (first, -second)]
        gaps = [len(pair.first["response"].split()) - len(pair.second["response"].split()) for pair, _ in judged]
        return report | {
            "consistent": sum(verdict.choice is not None for _, verdict in judged),
            "flip_rate": mean(verdict.choice is None for _, verdict in judged),
            "first_seat_share": mean(seats),
            "length": length_bias(pairs, verdicts),
            "length_correlation": _correlation(gaps, [(first + second) / 2 for first, second in odds]),
            "letter_mass": mean(verdict.detail["letter_mass"] for _, verdict in judged),
        }


def question(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, str]]:
    """The conversation that asks for a letter, with `first` in seat A; it ends where the letter is due."""
    turns = first["prompt"]
    request = turns[0]["content"] if len(turns) == 1 else "\n".join(f"{t['role']}: {t['content']}" for t in turns)
    text = QUESTION.format(request=request, a=first["response"].strip(), b=second["response"].strip())
    return [{"role": "user", "content": text}, {"role": "assistant", "content": LEAD}]


def verdict_of(straight: tuple[float, ...] | None, swapped: tuple[float, ...] | None) -> Verdict:
    """From log-probabilities of A and B in both orders; in the swapped one the first answer sits in B."""
    if straight is None or swapped is None:
        return Verdict(None)
    odds = (straight[0] - straight[1], swapped[1] - swapped[0])
    mass = sum(math.exp(value) for value in (*straight, *swapped)) / 2
    detail = {"log_odds": odds, "letter_mass": mass}
    if odds[0] > 0 and odds[1] > 0:
        return Verdict("first", detail)
    return Verdict("second" if odds[0] < 0 and odds[1] < 0 else None, detail)


def _correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Pearson's; None where one side does not vary."""
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return correlation(one, other)
