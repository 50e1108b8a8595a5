"""LMSYS-Chat-1M (its own licence, granted to whoever asked for the files): Parquet, or the same records as JSONL.

    {"conversation_id": "…", "model": "…", "conversation": [{"content": "…", "role": "user"}, …], "turn": 1,
     "language": "English", "openai_moderation": [{"categories": {…}, "category_scores": {…}, "flagged": false}, …],
     "redacted": false}

`openai_moderation` has one item for each message. A prompt is unsafe where one of its messages is flagged; that
the data set blacked out names ("redacted") is kept in the row's details.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.sources.base import Record, register
from tasks.sources.language import language_code
from tasks.sources.rows import dialogue_row, prompt_row, turns

LICENCE = "LicenseRef-LMSYS-Chat-1M"
"""Not on SPDX's list: a gated agreement that forbids passing the conversations on."""


@register("lmsys_chat", use="prompts", also=("openers", "dialogues"), licence=LICENCE, synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    messages = turns(record, "conversation", record.items("conversation"), role="role", text="content")
    flags = _flags(record, len(messages))
    language = {"language": language_code(record.text("language"))}
    redacted = record.get("redacted")
    if not isinstance(redacted, bool):
        record.refuse("redacted", redacted, "true or false")
    if record.use == "dialogues":
        if not any(flags):
            yield dialogue_row(record, messages) | language | {"synthetic": True}
        return
    upto = next((place for place, message in enumerate(messages, start=1) if message["role"] == "user"), 1)
    details = {"conversation_id": record.text("conversation_id"), "redacted": redacted}
    yield prompt_row(record, messages[:upto], unsafe=any(flags[:upto]), details=details) | language


def _flags(record: Record, count: int) -> list[bool]:
    items = record.items("openai_moderation")
    if len(items) != count:
        record.refuse("openai_moderation", f"{len(items)} items", f"one for each of {count} messages")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, Mapping) or not isinstance(item.get("flagged"), bool):
            record.refuse(f"openai_moderation, item {number}", item, 'an object with "flagged", true or false')
    return [item["flagged"] for item in items]
