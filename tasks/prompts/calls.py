"""Calls of the generator from templates (YAML beside the code), and their answers.

A template: {"user": text with {fields}, "shots": [[user, assistant], …] (examples), "start": first words of the answer,
"stop": texts that end it, "max_tokens": at most the stage's own}. The generator goes on from "start".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.engine import SamplingParams
from tasks.generation import Ask, Writer


@dataclass(frozen=True)
class Answer:
    """One answer of the generator, with the words that were put into its mouth."""

    text: str
    finished: bool
    """False where the token limit cut it off."""


def compose(template: Mapping[str, Any], params: SamplingParams, ask_id: str, **fields: object) -> Ask:
    messages: list[dict[str, str]] = []
    for user, assistant in template.get("shots", []):
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    messages.append({"role": "user", "content": template["user"].format(**fields)})
    if "start" in template:
        messages.append({"role": "assistant", "content": template["start"].format(**fields)})
    most = min(params.max_tokens, template.get("max_tokens", params.max_tokens))
    return Ask(ask_id, messages, replace(params, max_tokens=most, stop=tuple(template.get("stop", ()))))


def answer(writer: Writer, asks: Sequence[Ask], share: tuple[float, float] = (0.0, 1.0)) -> list[Answer]:
    """In one engine call; `share` is the part of the shard's work that it is."""
    answers = []
    for ask, result in zip(asks, writer.write(asks, share), strict=True):
        last = ask.messages[-1]
        start = last["content"] if last["role"] == "assistant" else ""
        answers.append(Answer((start + result.text).strip(), result.finish_reason == "stop"))
    return answers
