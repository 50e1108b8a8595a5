"""ShareGPT's dumps (CC0-1.0): a JSON list of conversations, with HTML or Markdown as answers.

    {"id": "QWJhYvA_0", "conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "<div …>…</div>"}]}

A long conversation may be split: "QWJhYvA_1" goes on with "QWJhYvA_0". Only first parts are read, since nobody can
answer what goes on with something unknown. As prompts and openers they give the first human turn, as dialogues all up
to the last answer.
"""

import re
from collections.abc import Iterator
from typing import Any

from bs4.exceptions import ParserRejectedMarkup

from tasks.sources.base import Record, register
from tasks.sources.html import is_html, markdown
from tasks.sources.rows import dialogue_row, prompt_row, turns

_LATER_PART = re.compile(r"_[1-9]\d*$")


@register("sharegpt", use="openers", also=("prompts", "dialogues"), licence="CC0-1.0", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    identity = record.get("id")
    conversation = record.get("conversations")
    if not isinstance(conversation, list):
        record.refuse("conversations", conversation, "a list of turns")
    if not conversation or _LATER_PART.search(str(identity or "")):
        return
    messages = turns(record, "conversations", conversation, role="from", text="value")
    if record.use == "dialogues":
        answered = messages[:-1] if messages[-1]["role"] == "user" else messages
        if answered:
            yield dialogue_row(record, [_clean(record, message) for message in answered]) | {"synthetic": True}
        return
    first = next((message for message in messages if message["role"] != "system"), messages[0])
    if first["role"] == "user":
        yield prompt_row(record, [first])


def _clean(record: Record, message: dict[str, str]) -> dict[str, str]:
    if message["role"] != "assistant" or not is_html(message["content"]):
        return message
    try:
        return message | {"content": markdown(message["content"])}
    except (RecursionError, ParserRejectedMarkup) as error:
        record.refuse("conversations", message["content"], f"HTML that can be read ({type(error).__name__})")
