"""Conversations that people wrote (the paper's 10K of supervised data): files as `chats` reads them, not synthetic."""

from collections.abc import Iterator
from typing import Any

from tasks.sources import chats
from tasks.sources.base import Record, register


@register("human_sft", use="dialogues", also=("prompts", "openers"), licence="", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    yield from chats.read(record)
