"""Conversations as token ids: Jinja chat templates, prompts, and masks of what the assistant said.

A template says nothing about which characters the assistant wrote. They are found by rendering prefixes: the text of
the conversation so far with the opening of the assistant's turn, then the same with that turn in it. What the second
has more, up to and including the token that ends the turn, is what a model has to learn.

    <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n
                                                          └── trained ──┘
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models.config import ModelConfig
from models.tokenizer import Tokenizer

Message = Mapping[str, Any]
"""`role` ("system", "user" or "assistant") and `content`."""

CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# The marker that ends an assistant turn is also the one that opens the user turn after it.
NEMOTRON_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<extra_id_0>System\\n\\n' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<extra_id_0>System\\n' + message['content'] + '\\n' }}"
    "{% else %}"
    "{% if not (loop.previtem is defined and loop.previtem['role'] == 'assistant') %}{{ '<extra_id_1>' }}{% endif %}"
    "{{ message['role'] | capitalize + '\\n' + message['content'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}{{ '<extra_id_1>' }}{% endif %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{% if messages[-1]['role'] != 'assistant' %}{{ '<extra_id_1>' }}{% endif %}{{ 'Assistant\\n' }}"
    "{% endif %}"
)
"""The prompt format of Nemotron-4-340B-Instruct (model card): an empty system text, no BOS."""


class GenerationBlock(Extension):
    """transformers' `{% generation %}` tag, which changes nothing in the text."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def render(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    """The conversation as the model's template writes it, opened for an answer if asked.

    Raises ValueError where the tokenizer has no template, or the template refuses the conversation.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            "the tokenizer has no chat template; set `chat_template` in tokenizer_config.json, e.g. to ChatML"
        )
    special = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id, "pad_token": tokenizer.pad_id}
    spellings = {name: tokenizer.token(token_id) or "" for name, token_id in special.items()}
    try:
        return _compile(tokenizer.chat_template).render(
            messages=[dict(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            tools=None,
            documents=None,
            **spellings,
        )
    except (jinja2.TemplateError, TypeError) as error:
        roles = [message.get("role") for message in messages]
        raise ValueError(f"the chat template cannot render a conversation of {roles}: {error}") from error


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Token ids up to where the assistant goes on: after the opening of its turn, or after a partial answer.

    A conversation that ends in an assistant message is continued: its text is not closed. What `encode_dialogue`
    returns for the completed conversation begins with these ids. Raises ValueError as `render` does.
    """
    if not messages:
        raise ValueError("a prompt of 0 messages; expected at least one")
    continued = messages[-1]["role"] == "assistant"
    history = messages[:-1] if continued else messages
    opened = render(tokenizer, history, add_generation_prompt=True)
    cuts = []
    for index in _assistant_turns(history):
        with suppress(ValueError):  # a prompt needs no masks, so here a template may rewrite earlier turns
            cuts += _locate_turn(tokenizer, history, index, opened)
    text = opened + messages[-1]["content"] if continued else opened
    return _single_bos(tokenizer, [i for piece in _encode_pieces(tokenizer, text, [*cuts, len(opened)]) for i in piece])


def encode_dialogue(
    tokenizer: Tokenizer, messages: Sequence[Message], last_turn_only: bool = False
) -> tuple[list[int], list[bool]]:
    """Token ids of a whole conversation, and for each token whether the assistant wrote it (so: is trained).

    Trained are each assistant turn's text and the token that ends the turn; with `last_turn_only` only the last one's.
    Raises ValueError where the template renders earlier turns differently once later ones follow, rewrites what the
    assistant said, or ends its turns without a token of their own.
    """
    text = render(tokenizer, messages)
    turns = _assistant_turns(messages)
    cuts = [cut for index in turns for cut in _locate_turn(tokenizer, messages, index, text)]
    pieces = _encode_pieces(tokenizer, text, cuts)
    token_ids = [token_id for piece in pieces for token_id in piece]
    last = 2 * len(turns) - 1
    learnt = [number == last if last_turn_only else number % 2 == 1 for number in range(len(pieces))]
    trained = [flag for piece, flag in zip(pieces, learnt, strict=True) for _ in piece]
    kept = _single_bos(tokenizer, token_ids)
    return kept, trained[len(token_ids) - len(kept) :]


def end_of_turn_id(tokenizer: Tokenizer) -> int | None:
    """The token that ends an assistant turn in the tokenizer's template, None without a template."""
    if not tokenizer.chat_template:
        return None
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    text = render(tokenizer, messages)
    start, end = _locate_turn(tokenizer, messages, 1, text)
    return tokenizer.encode(text[start:end])[-1]


def stop_ids(tokenizer: Tokenizer, config: ModelConfig) -> tuple[int, ...]:
    """Every token that ends generation: the model's own, the tokenizer's end of text, the template's end of turn."""
    found = {*config.eos_ids, tokenizer.eos_id, end_of_turn_id(tokenizer)}
    return tuple(sorted(token_id for token_id in found if token_id is not None))


def _assistant_turns(messages: Sequence[Message]) -> list[int]:
    return [index for index, message in enumerate(messages) if message["role"] == "assistant"]


def _locate_turn(tokenizer: Tokenizer, messages: Sequence[Message], index: int, text: str) -> tuple[int, int]:
    """Where in `text` the assistant's turn `index` begins and where the token that ends it stops, in characters."""
    opened = render(tokenizer, messages[:index], add_generation_prompt=True)
    closed = render(tokenizer, messages[: index + 1])
    if not (closed.startswith(opened) and text.startswith(closed)):
        raise ValueError(
            f"the chat template does not render prefix-stably: the text up to message {index} changes once the "
            f"conversation goes on; found {closed[-40:]!r} where {text[: len(closed)][-40:]!r} was expected "
            "(use a template that writes each turn the same way wherever it stands)"
        )
    content = messages[index]["content"].strip()
    lead, found, closing = closed[len(opened) :].partition(content) if content else ("", "", closed[len(opened) :])
    if found != content or lead.strip():
        raise ValueError(
            f"the chat template rewrites what the assistant said in message {index}: {content[:40]!r} became "
            f"{closed[len(opened) :][:40]!r} (use a template that writes assistant messages unchanged)"
        )
    end = _special_pattern(tuple(tokenizer.special_tokens)).search(closing)
    if end is None:
        raise ValueError(
            f"the chat template ends assistant turns with {closing!r}, which holds no special token, so a model could "
            "never learn to stop (let the template write eos_token or another special token there)"
        )
    return len(opened), len(closed) - len(closing) + end.end()


def _encode_pieces(tokenizer: Tokenizer, text: str, cuts: Sequence[int]) -> list[list[int]]:
    """Token ids of the text between cuts. No token reaches over a cut; elsewhere the whole text decides."""
    pieces: list[list[int]] = []
    before: list[int] = []
    for start, end in pairwise([0, *cuts, len(text)]):
        whole = tokenizer.encode(text[:end])
        joined = whole[: len(before)] == before
        pieces.append(whole[len(before) :] if joined else tokenizer.encode(text[start:end]))
        before = before + pieces[-1]
    return pieces


def _single_bos(tokenizer: Tokenizer, token_ids: list[int]) -> list[int]:
    """Drop all but one of several BOS at the start, as where both a template and a message write one."""
    start = 0
    while token_ids[start : start + 2] == [tokenizer.bos_id] * 2:
        start += 1
    return token_ids[start:]


@lru_cache(maxsize=64)
def _special_pattern(spellings: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(spellings, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


@lru_cache(maxsize=64)
def _compile(template: str) -> jinja2.Template:
    """As transformers compiles it, but without `strftime_now`: a date in the prompt would change with the day."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    try:
        return environment.from_string(template)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"the chat template is not valid Jinja (line {error.lineno}): {error.message}") from error


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
