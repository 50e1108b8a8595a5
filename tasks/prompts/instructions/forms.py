"""How instructions are given beside single-turn: once for all following questions, or to revise an answer."""

from collections.abc import Mapping, Sequence
from random import Random

from tasks.prompts.instructions import Asked, Check, Use, length, tidy, word, words_of
from tasks.prompts.instructions.base import FORMS, Form

SURE_FROM = 10
"""Prompts from which on every form that is wanted at all has at least one."""


def form_counts(wanted: int, shares: Mapping[Form, float]) -> dict[Form, int]:
    """How many prompts each form has; the form with the largest share takes what rounding leaves."""
    whole, least = sum(shares.values()), int(wanted >= SURE_FROM)
    largest = max(shares, key=lambda form: shares[form])
    counts: dict[Form, int] = dict.fromkeys(FORMS, 0)
    for form, share in shares.items():
        if share and form != largest:
            counts[form] = max(least, round(wanted * share / whole))
    counts[largest] = wanted - sum(counts.values())
    return counts


def announce(checks: Sequence[Check], questions: Sequence[str], rng: Random, use: Use) -> list[Asked]:
    """The user's turns: the first one says what holds for all, the others are the questions alone."""
    lengths = length(checks)
    rule = tidy(" ".join([*(word(check, rng, use) for check in checks), rng.choice(lengths[use])]))
    first = rng.choice(words_of("forms")["standing"][use]).format(instruction=rule, question=questions[0])
    plain = [f"{question} {rng.choice(lengths['plain'])}" for question in questions]
    return [Asked(message, without, checks) for message, without in zip([first, *questions[1:]], plain, strict=True)]


def revise(checks: Sequence[Check], rng: Random, use: Use) -> str:
    """What the user says after an answer to have it changed."""
    return rng.choice(words_of("forms")["revisions"][use]).format(
        instruction="\n".join(word(check, rng, use) for check in checks)
    )
