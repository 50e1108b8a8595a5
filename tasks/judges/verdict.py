"""A judge's Yes or No on one text, read off the probabilities of the two words: nothing is sampled or parsed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.errors import InputError
from models.chat import encode_prompt
from models.engine import Engine

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class YesNo:
    log_odds: float
    """log P(yes) - log P(no)."""
    mass: float
    """Probability that both words have together: whether the judge understood that it should say one of them."""


def verdicts(engine: Engine, conversations: Sequence[Messages], words: Sequence[str]) -> list[YesNo | None]:
    """On each conversation, which ends where the word is due; None where it does not fit the model's context.

    `words` are the one that passes and the one that fails, as they follow the conversation's last characters.
    """
    choices = _word_ids(engine, words)
    prompts = [encode_prompt(engine.tokenizer, conversation) for conversation in conversations]
    room = engine.config.max_positions - max(map(len, choices))
    fits = [len(prompt) <= room for prompt in prompts]
    asked = [(prompt, choice) for prompt, fit in zip(prompts, fits, strict=True) if fit for choice in choices]
    scores = iter(engine.logprobs([prompt for prompt, _ in asked], [choice for _, choice in asked]))
    return [_verdict(sum(next(scores)), sum(next(scores))) if fit else None for fit in fits]


def _word_ids(engine: Engine, words: Sequence[str]) -> list[list[int]]:
    ids = [engine.tokenizer.encode(word) for word in words]
    spelled = [engine.tokenizer.decode(one) for one in ids]
    told_apart = len(words) == 2 and ids[0] != ids[1]
    if not told_apart or [word.strip() for word in spelled] != [word.strip() for word in words]:
        raise InputError(
            f"the judge's tokenizer reads the verdicts {list(words)} as {spelled}; expected two words that it can tell "
            "apart",
            "change `verdicts` in the judge's template, or judge with another model",
        )
    return ids


def _verdict(passes: float, fails: float) -> YesNo:
    return YesNo(passes - fails, math.exp(passes) + math.exp(fails))
