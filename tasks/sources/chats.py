"""The user's own conversations, in whatever of these forms each record is:

    {"messages": [{"role": "user", "content": "…"}, …]}                 ours, TRL's, OpenAI's fine-tuning files
    {"system": "", "mask": "User", "conversations": [{"from": "User", "value": "…"}, …]}      NeMo-Aligner, ShareGPT
    {"prompt": "…" or [messages], "completion": "…" or [messages]}      TRL
    {"instruction": "…", "input": "…", "output": "…"}                   Alpaca
    {"input": "…", "output": "…"}                                       NeMo-Aligner
    {"text": "<extra_id_0>System…"}                                     NeMo-Aligner's prompt format

Answers of which nobody says who wrote them count as synthetic, so that the human share is never overstated; the source
"human_sft" reads the same files as written by people (the paper's 10K), and `synthetic` in the settings overrules both.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tasks.sources import nemotron
from tasks.sources.base import Record, register
from tasks.sources.rows import Message, assistant, dialogue_row, prompt_row, system, turns, user

TEXT_OF_PARTS = 'a text, or a list of {"type": "text", "text": …}'


@register("chats", use="dialogues", also=("prompts", "openers"), licence="", synthetic=True)
def read(record: Record) -> Iterator[dict[str, Any]]:
    """As prompts and openers, everything up to the first user turn."""
    messages = messages_of(record)
    if record.use in ("prompts", "openers"):
        upto = next((place for place, message in enumerate(messages, start=1) if message["role"] == "user"), 1)
        yield prompt_row(record, messages[:upto]) | {"synthetic": False}
        return
    yield dialogue_row(record, messages, teaches=_teaches(record))


def messages_of(record: Record) -> list[Message]:
    """The conversation that the record holds, in whatever form."""
    if record.get("messages") is not None:
        return listed(record, "messages")
    if record.get("conversations", "conversation") is not None:
        return [*_system(record), *listed(record, "conversations", "conversation")]
    if record.get("completion", "response") is not None:
        return [*_system(record), *asked(record, "prompt"), *answered(record, "completion", "response")]
    if record.get("output") is not None:
        return [*_system(record), user(instruction(record)), assistant(record.text("output"))]
    text = record.text("messages", "conversations", "completion", "output", "text")
    return nemotron.conversation(record, "text", text)


def listed(record: Record, *names: str) -> list[Message]:
    """A list of turns with role and content, or from and value."""
    items = record.items(*names)
    first = items[0] if isinstance(items[0], Mapping) else {}
    if "from" in first:
        return turns(record, names[0], items, role="from", text="value")
    return turns(record, names[0], [_plain(record, names[0], item) for item in items], role="role", text="content")


def asked(record: Record, *names: str) -> list[Message]:
    """What is asked: messages, a text, or a text in NeMo-Aligner's format."""
    if isinstance(record.get(*names), list):
        return listed(record, *names)
    text = record.text(*names)
    return nemotron.conversation(record, names[0], text) if nemotron.is_nemotron(text) else [user(text)]


def answered(record: Record, *names: str) -> list[Message]:
    """What is answered: messages, or a text."""
    if isinstance(record.get(*names), list):
        return listed(record, *names)
    return [assistant(nemotron.response(record.text(*names)))]


def instruction(record: Record) -> str:
    """Alpaca's two fields, of which the input is often empty; NeMo-Aligner has the input alone."""
    if record.get("instruction", "prompt", "question") is None:
        return record.text("instruction", "prompt", "question", "input")
    given = record.text("input", empty=True) if record.get("input") is not None else ""
    return "\n\n".join(part for part in (record.text("instruction", "prompt", "question"), given) if part)


def _system(record: Record) -> list[Message]:
    return [system(record.text("system", empty=True))] if record.get("system") is not None else []


def _plain(record: Record, field: str, item: Any) -> Any:
    """OpenAI's content in parts as one text. Calls of tools have no place in our rows."""
    if not isinstance(item, Mapping):
        return item
    if item.get("tool_calls") or item.get("function_call"):
        record.refuse(field, item.get("tool_calls") or item.get("function_call"), "messages without tool calls")
    parts = item.get("content")
    if not isinstance(parts, list):
        return item
    texts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in parts]
    known = [text for text in texts if isinstance(text, str)]
    if len(known) < len(texts):
        record.refuse(f"{field}, content", parts, TEXT_OF_PARTS)
    return {**item, "content": "".join(known)}


def _teaches(record: Record) -> Literal["all", "last"]:
    """From OpenAI's `weight` of each answer and NeMo-Aligner's `mask`, the role whose turns are not learnt."""
    mask = record.get("mask")
    if mask is not None and str(mask).lower() not in ("user", "human"):
        record.refuse("mask", mask, '"User": what is learnt are the assistant\'s turns')
    items = record.get("messages") or []
    weights = [item.get("weight", 1) for item in items if isinstance(item, Mapping) and item.get("role") == "assistant"]
    weights = [1 if weight is None else weight for weight in weights]
    if all(weight == 1 for weight in weights):
        return "all"
    if weights[-1] == 1 and not any(weights[:-1]):
        return "last"
    record.refuse("messages, weight", weights, "1 for every answer, or for the last alone")
