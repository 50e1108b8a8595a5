"""Conversations as NeMo-Aligner's preference files hold them: one text, whose turns are opened by special tokens.

    <extra_id_0>System\\n\\n<extra_id_1>User\\nHello?\\n<extra_id_1>Assistant\\n

A response ends with "\\n<extra_id_1>".
"""

import re

from tasks.sources.base import Record
from tasks.sources.rows import Message

_TURN = re.compile(r"\n?<extra_id_[01]>(System|User|Assistant)(?:\n|\Z)")
_ENDS = re.compile(r"\s*(?:<extra_id_1>|<\|endoftext\|>)?\s*$")


def is_nemotron(text: str) -> bool:
    return text.startswith("<extra_id_0>System")


def conversation(record: Record, field: str, text: str) -> list[Message]:
    """Its messages; an opened turn of the assistant's that says nothing yet is left out."""
    before, *rest = _TURN.split(text)
    if before.strip():
        record.refuse(field, before, "<extra_id_0>System at the beginning")
    messages = [
        {"role": role.lower(), "content": said.strip()} for role, said in zip(rest[::2], rest[1::2], strict=True)
    ]
    return messages[:-1] if messages[-1] == {"role": "assistant", "content": ""} else messages


def response(text: str) -> str:
    """Without the token that ends it."""
    return _ENDS.sub("", text).strip()
