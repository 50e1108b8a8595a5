"""A request's conversation as our chat templates take it: roles and plain text."""

from collections.abc import Mapping, Sequence
from typing import Any

from deployments.server.bodies import ChatBody
from deployments.server.errors import refused

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
MOST_MESSAGES = 1000
"""Rendering a conversation takes time that grows with the square of its turns."""
HARMLESS = {"role", "content", "name", "refusal", "annotations"}
"""Keys that a message may have. `name` is handed to the template; the last two come back from our own answers."""


def conversation(body: ChatBody) -> list[dict[str, str]]:
    """The messages, checked; the last one is continued where it is the assistant's. Raises ApiError."""
    if not 1 <= len(body.messages) <= MOST_MESSAGES:
        raise refused(f"{len(body.messages)} messages; expected 1 to {MOST_MESSAGES}", "messages")
    messages = [_message(message, f"messages[{number}]") for number, message in enumerate(body.messages)]
    continued = messages[-1]["role"] == "assistant"
    if body.continue_final_message is not None and body.continue_final_message != continued:
        raise refused(
            f"continue_final_message is {body.continue_final_message}, and the last message is "
            f"{'the assistant' if continued else 'not the assistant'}'s; a last message of the assistant is always "
            "continued, and no other",
            "continue_final_message",
        )
    if body.add_generation_prompt is False and not continued:
        raise refused("an answer needs a generation prompt; only a continued message has none", "add_generation_prompt")
    return messages


def _message(message: Mapping[str, Any], where: str) -> dict[str, str]:
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise refused(f"{where}.role is {str(role)[:40]!r}; expected one of {', '.join(ROLES)}", f"{where}.role")
    for name, value in message.items():
        if name not in HARMLESS and value not in (None, []):
            raise refused(f"{where}.{name[:40]} is not supported by this server", f"{where}.{name[:40]}")
    name = message.get("name")
    if name is not None and not isinstance(name, str):
        raise refused(f"{where}.name is no text", f"{where}.name")
    found = {"role": ROLES[role], "content": _text(message.get("content"), f"{where}.content")}
    return found if name is None else found | {"name": name}


def _text(content: Any, where: str) -> str:
    """A text, or text parts, which are joined by line breaks as in vLLM."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise refused(f"{where} is a {type(content).__name__}; expected a text, or a list of text parts", where)
    texts: list[str] = []
    for number, part in enumerate(content):
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise refused(f"{where}[{number}] is no text; this server reads text only", f"{where}[{number}]")
        texts.append(part["text"])
    return "\n".join(texts)
