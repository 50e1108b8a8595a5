"""Conversations as an endpoint takes them, also those that end with the first words of an answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.configs.base import EndpointResources

CHAT = "/chat/completions"
BEGIN = "\n\nBegin your answer with exactly these words and go on from there: "
ONE_WORD = "\n\nReply with one word only, which is one of these: "

Messages = Sequence[Mapping[str, Any]]


def conversation(messages: Messages, settings: EndpointResources) -> dict[str, Any]:
    """The messages, and how their last one is gone on with where it is the assistant's."""
    plain = [{"role": message["role"], "content": message["content"]} for message in messages]
    if not begun(messages) or settings.continuation == "plain":
        return {"messages": plain}
    if settings.continuation == "ask":
        return {"messages": with_request(plain[:-1], BEGIN + plain[-1]["content"])}
    return {"messages": plain, "continue_final_message": True, "add_generation_prompt": False}


def word_question(messages: Messages, words: Sequence[str], settings: EndpointResources) -> Messages:
    """The conversation after which one of `words` is due. Where it cannot be continued, it asks for a word alone."""
    if not begun(messages) or settings.continuation != "ask":
        return messages
    return with_request(messages[:-1], ONE_WORD + ", ".join(word.strip() for word in words))


def with_request(messages: Messages, text: str) -> list[dict[str, str]]:
    """`text` at the end of the user's last message."""
    found = [{"role": message["role"], "content": message["content"]} for message in messages]
    if not found or found[-1]["role"] != "user":
        return [*found, {"role": "user", "content": text.strip()}]
    return [*found[:-1], {"role": "user", "content": found[-1]["content"] + text}]


def begun(messages: Messages) -> str:
    """The words with which the answer begins already."""
    return messages[-1]["content"] if messages and messages[-1]["role"] == "assistant" else ""
