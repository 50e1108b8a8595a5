"""Rows of our schemas from a record: what a reader yields. Conversations are checked here, so that no reader forgets.

    yield prompt_row(record, [user("What is 3 + 4?")], verifier=verifier("number", {"value": "7"}), task="maths")
    yield dialogue_row(record, [system("Be brief."), user("Hello?"), assistant("Hello!")])

A row here is a dict of the schema's own columns. The stage (tasks/read_source.py) adds id, family and provenance, from
the reader and the settings; what a reader's row says itself stays, where it knows more than `register` does:

    yield dialogue_row(record, messages) | {"source": "open_platypus/PRM800K", "licence": "MIT", "synthetic": False}
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tasks.rows import ATTRIBUTES, canonical, row_id
from tasks.sources.base import Record

Message = dict[str, str]
Messages = Sequence[Mapping[str, str]]

ROLES = {
    "system": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
}  # fmt: skip
"""Ours by the names that data sets use, in lower case."""


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def prompt_row(
    record: Record,
    messages: Messages,
    *,
    verifier: Mapping[str, Any] | None = None,
    task: str = "",
    answer_format: str = "",
    unsafe: bool = False,
    details: Mapping[str, Any] | None = None,
    topic: str = "",
) -> dict[str, Any]:
    """A PROMPT row; the last message is the user's. `verifier` is what tasks.judges.ground_truth.verifier gives."""
    return {
        "topic": topic,
        "task": task,
        "answer_format": answer_format,
        "messages": checked(record, messages, last="user"),
        "verifier": verifier,
        "side": "",
        "unsafe": unsafe,
        "details": canonical(details or {}),
    }


def dialogue_row(
    record: Record,
    messages: Messages,
    *,
    teaches: Literal["all", "last"] = "all",
    scores: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """A DIALOGUE row; the last message is the assistant's. `scores`: HelpSteer's attributes and "reward"."""
    whole = checked(record, messages, last="assistant")
    opening = [message["role"] for message in whole].index("assistant")
    known = scores or {}
    values = {name: known.get(name) for name in (*ATTRIBUTES, "reward")}
    return {"prompt_id": row_id(whole[:opening]), "messages": whole, "teaches": teaches, **values}


def preference_row(
    record: Record,
    prompt: Messages,
    chosen: Messages,
    rejected: Messages,
    *,
    chosen_reward: float | None = None,
    rejected_reward: float | None = None,
) -> dict[str, Any]:
    """A PREFERENCE row; `chosen` and `rejected` go on from the prompt and end with the assistant."""
    asked = checked(record, prompt, last="user", field="prompt")
    answers = {
        name: checked(record, [*asked, *messages], last="assistant", field=name)[len(asked) :]
        for name, messages in (("chosen", chosen), ("rejected", rejected))
    }
    if answers["chosen"] == answers["rejected"]:
        record.refuse("rejected", answers["rejected"][-1]["content"], "another answer than the chosen one")
    rewards = {"chosen_reward": chosen_reward, "rejected_reward": rejected_reward}
    return {"prompt_id": row_id(asked), "prompt": asked, **answers, **rewards, "judge": "given"}


def text_row(record: Record, text: str) -> dict[str, Any]:
    """A TEXT row."""
    if not text.strip():
        record.refuse("text", text, "a text with something in it")
    return {"text": text}


def turns(record: Record, field: str, items: Sequence[Any], *, role: str, text: str) -> list[Message]:
    """A data set's list of turns as messages; `role` and `text` are the keys of a turn. Names of roles become ours."""
    messages = []
    for number, item in enumerate(items, start=1):
        place = f"{field}, turn {number}"
        if not isinstance(item, Mapping):
            record.refuse(place, item, f"an object with {role!r} and {text!r}")
        name, content = item.get(role), item.get(text)
        if not isinstance(name, str) or name.lower() not in ROLES:
            record.refuse(f"{place}, {role}", name, f"one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            record.refuse(f"{place}, {text}", content, "a text")
        messages.append({"role": ROLES[name.lower()], "content": content.strip()})
    return messages


def checked(
    record: Record, messages: Messages, *, last: str, field: str = "messages", empty: bool = False
) -> list[Message]:
    """The messages, where they are a conversation: at most one system message, first; then the user and the assistant
    in turn, every one with text unless `empty`; the `last` role's at the end. An empty system message is left out.
    Else BadRow.
    """
    kept = [{"role": item["role"], "content": item["content"]} for item in messages]
    if kept and kept[0] == system(""):
        kept = kept[1:]
    first = 1 if kept and kept[0]["role"] == "system" else 0
    if len(kept) == first:
        record.refuse(field, kept, f"a conversation that ends with the {last}")
    for place, item in enumerate(kept):
        expected = ("user", "assistant")[(place - first) % 2]
        if place >= first and item["role"] != expected:
            record.refuse(f"{field}, turn {place + 1}", item["role"], f"the {expected}: user and assistant in turn")
        if not (empty or item["content"].strip()):
            record.refuse(f"{field}, turn {place + 1}", item["content"], "a text with something in it")
    if kept[-1]["role"] != last:
        record.refuse(f"{field}, turn {len(kept)}", kept[-1]["role"], f"the {last} at the end")
    return kept
