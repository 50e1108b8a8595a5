"""Calls of the generator from templates (YAML beside the code), and their answers.

A template: {"user": text with {fields}, "shots": [[user, assistant], …] (examples), "start": first words of the answer,
"stop": texts that end it, "max_tokens": at most the stage's own, "numbered": how many items of a numbered list the
answer has, of which "start" is the beginning, "item": what such an item looks like (a regular expression), "pattern":
what the whole answer after "start" looks like, "choices": the texts that it can be}. The answer goes on from "start".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.engine import Constraint, SamplingParams
from tasks.generation import Ask, Writer

ITEM = r"[^\n]{3,200}"
"""One item of a list, on one line."""


@dataclass(frozen=True)
class Answer:
    """One answer of the generator, with the words that were put into its mouth."""

    text: str
    finished: bool
    """False where the token limit cut it off."""


def compose(
    template: Mapping[str, Any], params: SamplingParams, ask_id: str, constrained: bool = False, **fields: object
) -> Ask:
    """A call. With `constrained` a list can be nothing else (models/engine/constraints)."""
    messages: list[dict[str, str]] = []
    for user, assistant in template.get("shots", []):
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    messages.append({"role": "user", "content": template["user"].format(**fields)})
    if "start" in template:
        messages.append({"role": "assistant", "content": template["start"].format(**fields)})
    most = min(params.max_tokens, template.get("max_tokens", params.max_tokens))
    params = replace(params, max_tokens=most, stop=tuple(template.get("stop", ())))
    return Ask(ask_id, messages, replace(params, constraint=_constraint(template, constrained, fields)))


def _constraint(template: Mapping[str, Any], constrained: bool, fields: Mapping[str, object]) -> Constraint | None:
    """Choices always hold: an answer that is none of them could not be read."""
    if "choices" in template:
        return Constraint.choices(template["choices"])
    if constrained and "numbered" in template:
        return numbered_list(int(template["numbered"].format(**fields)), template.get("item", ITEM))
    return Constraint("regex", template["pattern"]) if constrained and "pattern" in template else None


def numbered_list(items: int, item: str = ITEM) -> Constraint:
    """A list whose first number is already written."""
    return Constraint("regex", rf" ?{item}" + "".join(rf"\n{number}\. {item}" for number in range(2, items + 1)))


def answer(writer: Writer, asks: Sequence[Ask], share: tuple[float, float] = (0.0, 1.0)) -> list[Answer]:
    """In one engine call; `share` is the part of the shard's work that it is."""
    answers = []
    for ask, result in zip(asks, writer.write(asks, share), strict=True):
        last = ask.messages[-1]
        start = last["content"] if last["role"] == "assistant" else ""
        answers.append(Answer((start + result.text).strip(), result.finish_reason == "stop"))
    return answers
