"""CantTalkAboutThis: dialogues that keep to their topic while the user drifts away (Sreedhar et al., 2024).

    {"domain": "banking", "scenario": "…", "system_instruction": "…", "conversation": [{"role", "content"}, …],
     "distractors": [{"bot turn": "…", "distractor": "…"}, …], "conversation_with_distractors": […]}

`conversation_with_distractors` is one conversation or a list of them; each gives a dialogue. As prompts: each of them
up to a distractor, which the answer has to turn down. The part that Mixtral wrote is CC-BY-4.0, the part that GPT-4
wrote CC-BY-NC-4.0: the names of file and folders tell, the nearest first; the licence is "" where none names either.
The human test set is TFEval's: leave it out of training.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from tasks.judges.ground_truth import verifier
from tasks.sources.base import Record, register
from tasks.sources.rows import Message, dialogue_row, prompt_row, system, turns

LICENCES = {"mixtral": "CC-BY-4.0", "gpt4": "CC-BY-NC-4.0"}
"""By what the file's name or its folder's has in it."""
FIELD = "conversation_with_distractors"


@register("canttalkaboutthis", use="dialogues", also=("prompts",), licence="", synthetic=True)
def read(record: Record) -> Iterator[dict[str, Any]]:
    rules = system(record.text("system_instruction"))
    licence = _licence(record.name.lower())
    for conversation in _conversations(record):
        if record.use == "prompts":
            for opening in _up_to_distractors(record, conversation):
                check = verifier("refusal", {"refuse": True})
                row = prompt_row(record, [rules, *opening], verifier=check, task="topic", topic=record.text("domain"))
                yield row | {"licence": licence}
        else:
            yield dialogue_row(record, [rules, *conversation]) | {"licence": licence}


def _licence(name: str) -> str:
    parts = PurePosixPath(name).parts[::-1]
    return next((licence for part in parts for writer, licence in LICENCES.items() if writer in part), "")


def _conversations(record: Record) -> list[list[Message]]:
    items = record.items(FIELD)
    blocks = items if isinstance(items[0], list | tuple) else [items]
    for number, block in enumerate(blocks, start=1):
        if not isinstance(block, list | tuple) or not block:
            record.refuse(f"{FIELD}, conversation {number}", block, "a list of turns")
    return [turns(record, FIELD, block, role="role", text="content") for block in blocks]


def _up_to_distractors(record: Record, conversation: list[Message]) -> Iterator[list[Message]]:
    distractors = set()
    for number, item in enumerate(record.items("distractors"), start=1):
        text = item.get("distractor") if isinstance(item, Mapping) else None
        if not isinstance(text, str) or not text.strip():
            record.refuse(f"distractors, item {number}", item, 'an object with a text under "distractor"')
        distractors.add(text.strip())
    for place, message in enumerate(conversation):
        if message["role"] == "user" and message["content"] in distractors:
            yield conversation[: place + 1]
