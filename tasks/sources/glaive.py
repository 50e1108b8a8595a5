"""Glaive's function calling, v1 and v2 (Apache-2.0): dialogues in which the assistant calls functions.

    v2:  {"system": "SYSTEM: You are … with access to the following functions … {…}",
          "chat": "USER: …\\n\\n\\nASSISTANT: <functioncall> {…} <|endoftext|>\\n\\n\\nFUNCTION RESPONSE: {…}\\n\\n\\n
                   ASSISTANT: … <|endoftext|>"}
    v1:  {"sample": "SYSTEM: …\\nUSER: …\\nASSISTANT: …"}

A call stays in the assistant's text as it is. A function's response becomes a user's turn that begins "FUNCTION
RESPONSE:" and has to follow a call. Chats whose turns are not in order, or that end without an answer, are bad rows.
"""

import re
from collections.abc import Iterator
from typing import Any

from tasks.sources.base import Record, register
from tasks.sources.rows import Message, assistant, dialogue_row, system, user

CALL = "<functioncall>"
RESPONSE = "FUNCTION RESPONSE"
END = "<|endoftext|>"
_MARK = re.compile(r"(?:^|\n|(?<=<\|endoftext\|>))[ \t]*(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE):")


@register("glaive", use="dialogues", licence="Apache-2.0", synthetic=True)
def read(record: Record) -> Iterator[dict[str, Any]]:
    if record.get("sample") is not None:
        yield dialogue_row(record, _turns(record, "sample", record.text("sample")))
        return
    rules = record.text("system", empty=True).removeprefix("SYSTEM:").strip()
    yield dialogue_row(record, [system(rules), *_turns(record, "chat", record.text("chat"))])


def _turns(record: Record, field: str, text: str) -> list[Message]:
    before, *rest = _MARK.split(text)
    if before.strip() or not rest:
        record.refuse(field, before or text, "a text that begins with SYSTEM:, USER: or ASSISTANT:")
    messages: list[Message] = []
    for mark, raw in zip(rest[::2], rest[1::2], strict=True):
        said = raw.replace(END, "").strip()
        if mark == RESPONSE and not (messages and CALL in messages[-1]["content"]):
            record.refuse(field, f"{RESPONSE}: {said}", f"a {CALL} before it")
        messages.append(_message(mark, said))
    return messages


def _message(mark: str, said: str) -> Message:
    if mark == RESPONSE:
        return user(f"{RESPONSE}: {said}")
    return {"SYSTEM": system, "USER": user, "ASSISTANT": assistant}[mark](said)
