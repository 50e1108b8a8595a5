"""ChatQA's training data: questions about a given document, alone or in a conversation (Liu et al., 2024).

    [{"messages": [{"role": "user", "content": "…"}, …], "document": "…", "answers": ["…"]}, …]

The document stands before the first question, the first answer after the last one. `answers` is a list of texts, for
narrativeqa a list of such lists, for SQuAD a list of objects with `text`. The set's own licence is "other": each part
has that of the set that it was made from, told by its folder (drop/train.json). synthetic_convqa was written by a model
and is for non-commercial use under OpenAI's terms; sft mixes many sets, some model-written, and counts as synthetic.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from tasks.sources.base import Record, register
from tasks.sources.rows import assistant, dialogue_row, turns

PARTS = {
    "drop": "CC-BY-SA-4.0",
    "narrativeqa": "Apache-2.0",
    "newsqa": "",
    "quoref": "CC-BY-4.0",
    "ropes": "CC-BY-4.0",
    "sft": "",
    "squad1.1": "CC-BY-SA-4.0",
    "squad2.0": "CC-BY-SA-4.0",
    "synthetic_convqa": "LicenseRef-non-commercial",
    "tatqa": "CC-BY-4.0",
}
"""Licence by folder, "" where nobody states one."""
SYNTHETIC = ("sft", "synthetic_convqa")


@register("chatqa", use="dialogues", licence="", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    messages = turns(record, "messages", record.items("messages"), role="role", text="content")
    if record.get("answers") is not None:
        messages.append(assistant(_first(record, record.get("answers"))))
    if record.get("document") is not None and (document := record.text("document", empty=True)):
        first = next((message for message in messages if message["role"] == "user"), None)
        if first is None:
            record.refuse("messages", [message["role"] for message in messages], "a turn of the user")
        first["content"] = f"{document}\n\n{first['content']}"
    part = next((name for name in PurePosixPath(record.name).parts[::-1] if name in PARTS), "")
    known = {"source": f"chatqa/{part}", "licence": PARTS[part], "synthetic": part in SYNTHETIC} if part else {}
    yield dialogue_row(record, messages) | known


def _first(record: Record, found: Any) -> str:
    """The first text in nested lists and objects."""
    if isinstance(found, list | tuple) and found:
        return _first(record, found[0])
    if isinstance(found, Mapping):
        return _first(record, found.get("text"))
    if not isinstance(found, str) or not found.strip():
        record.refuse("answers", found, "a text, a list of texts or objects with a text")
    return found.strip()
