"""The user's own prompts: `prompt`, `question`, `instruction` (with `input`), `input` or `text`, or `messages`.

    {"prompt": "Explain photosynthesis.", "topic": "biology"}     {"messages": [{"role": "user", "content": "…"}]}

A record of CSV has its columns as fields. A conversation that ends with an answer is read up to its last user turn.
"""

from collections.abc import Iterator
from typing import Any

from tasks.sources.base import Record, register
from tasks.sources.chats import asked, instruction, listed
from tasks.sources.rows import Message, prompt_row, user


@register("prompts", use="prompts", also=("openers",), licence="", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    topic = record.text("topic", empty=True) if record.get("topic") is not None else ""
    unsafe = _flag(record, "unsafe")
    yield prompt_row(record, _messages(record), topic=topic, unsafe=unsafe)


def _flag(record: Record, name: str) -> bool:
    """A boolean, in CSV as text; false where nothing is said."""
    found = record.get(name)
    if found is None:
        return False
    if str(found).strip().lower() not in ("true", "false") or not isinstance(found, str | bool):
        record.refuse(name, found, "true or false")
    return str(found).strip().lower() == "true"


def _messages(record: Record) -> list[Message]:
    if record.get("messages") is not None:
        messages = listed(record, "messages")
        return messages[:-1] if messages[-1]["role"] == "assistant" else messages
    if record.get("instruction") is not None:
        return [user(instruction(record))]
    return asked(record, "prompt", "question", "input", "text")
