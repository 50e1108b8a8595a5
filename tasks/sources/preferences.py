"""The user's own preferences, with the fields of TRL or NeMo-Aligner:

    {"prompt": "…" or [messages], "chosen": "…" or [messages], "rejected": "…" or [messages]}     TRL, and our own
    {"chosen": [messages], "rejected": [messages]}                 TRL: the prompt is what both begin with
    {"prompt": "<extra_id_0>System…Assistant\\n", "chosen_response": "…\\n<extra_id_1>", "rejected_response": "…",
     "chosen_reward": 3.2, "rejected_reward": 1.1}                 NeMo-Aligner

Rewards are numbers, both or neither; the chosen answer's is the higher one.
"""

import math
from collections.abc import Iterator
from typing import Any

from tasks.sources.base import Record, register
from tasks.sources.chats import answered, asked
from tasks.sources.rows import Message, preference_row

CHOSEN = ("chosen", "chosen_response")
REJECTED = ("rejected", "rejected_response")


@register("preferences", use="preferences", licence="", synthetic=True)
def read(record: Record) -> Iterator[dict[str, Any]]:
    chosen, rejected = answered(record, *CHOSEN), answered(record, *REJECTED)
    named = record.get("prompt", "question") is not None
    prompt = asked(record, "prompt", "question") if named else _shared(chosen, rejected)
    better, worse = _reward(record, "chosen"), _reward(record, "rejected")
    if (better is None) != (worse is None):
        record.refuse("chosen_reward, rejected_reward", [better, worse], "both rewards, or neither")
    if better is not None and worse is not None and better <= worse:
        record.refuse("chosen_reward, rejected_reward", [better, worse], "a higher one for the chosen answer")
    answers = _after(prompt, chosen), _after(prompt, rejected)
    yield preference_row(record, prompt, *answers, chosen_reward=better, rejected_reward=worse)


def _shared(chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """What both begin with, up to a turn of the user's."""
    shared = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        shared += 1
    while shared and chosen[shared - 1]["role"] != "user":
        shared -= 1
    return chosen[:shared]


def _after(prompt: list[Message], messages: list[Message]) -> list[Message]:
    """Some data sets repeat the prompt before each answer."""
    return messages[len(prompt) :] if prompt and messages[: len(prompt)] == prompt else messages


def _reward(record: Record, name: str) -> float | None:
    """A number, as text in CSV."""
    field = f"{name}_reward"
    found = record.get(field, f"{name}_score", f"score_{name}")
    if found is None or found == "":
        return None
    try:
        value = float(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        record.refuse(field, found, "a number")
    return value
