"""Answers calls of a family by what each asks, as a generator would."""

import json
from collections.abc import Callable
from typing import Any

from tasks.generation import Ask
from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft
from tasks.rows import TEXT, make_row

Say = Callable[[Ask], str]


def respond(conversation: Conversation, say: Say) -> list[Draft]:
    """Answer every call by what it asks; "…" at an answer's end stands for the token limit."""
    asks = next(conversation)
    while True:
        try:
            texts = [say(ask) for ask in asks]
            asks = conversation.send([Answer(text.removesuffix("…"), not text.endswith("…")) for text in texts])
        except StopIteration as ended:
            return ended.value


def request(ask: Ask) -> str:
    """The last thing that was said to the generator."""
    return [message["content"] for message in ask.messages if message["role"] == "user"][-1]


def payload(draft: Draft) -> dict[str, Any]:
    return json.loads((draft.verifier or {})["payload"])


def text_row(text: str) -> dict[str, Any]:
    return make_row(TEXT, {"text": text, "licence": "CC-BY-4.0"}, text)
