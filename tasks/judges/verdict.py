"""A judge's Yes or No on one text, read off the probabilities of the two words: nothing is sampled or parsed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.engine import Generator
from tasks.judges.words import word_logprobs

Messages = Sequence[Mapping[str, str]]
REMEDY = "change `verdicts` in the judge's template, or judge with another model"


@dataclass(frozen=True)
class YesNo:
    log_odds: float
    """log P(yes) - log P(no)."""
    mass: float
    """Probability that both words have together: whether the judge understood that it should say one of them."""


def verdicts(engine: Generator, conversations: Sequence[Messages], words: Sequence[str]) -> list[YesNo | None]:
    """On each conversation, which ends where the word is due; None where it does not fit the model's context.

    `words` are the one that passes and the one that fails, as they follow the conversation's last characters.
    Raises InputError for words that the model cannot tell apart, NoLogprobs where it tells no log-probabilities.
    """
    return [_verdict(*score) if score else None for score in word_logprobs(engine, conversations, words, REMEDY)]


def _verdict(passes: float, fails: float) -> YesNo:
    return YesNo(passes - fails, math.exp(passes) + math.exp(fails))
