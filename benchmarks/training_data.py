"""What the training benchmark trains on: ShareGPT conversations of mixed length, as token ids that every side is given.

    documents   {"token_ids": […], "trained": [places]}          whole exchanges; what the assistant said is trained
    pairs       {"prompt": […], "chosen": […], "rejected": […]}  a question, its own answer, and another question's
    rated       {"token_ids": […], "prompt_tokens": n, "labels": [five of 0 to 4]}
                                                                 an answered question; the labels are drawn, not judged
    rated_twice                                                  the same, each question with another's answer too, as
                                                                 HelpSteer2 has two answers to each of its prompts

Neither what a rejected answer says nor what a label means changes how long a step takes.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

from workload import sharegpt

from models.chat import Message, encode_dialogue, encode_prompt, end_of_turn_id
from models.packing import Document
from models.reward import ATTRIBUTES, encode_conversation
from models.tokenizer import Tokenizer

ROLES = {"human": "user", "gpt": "assistant"}
DOCUMENT_TOKENS = (32, 512)
EXCHANGES = 2
"""Most exchanges of a document."""
PROMPT_TOKENS = (72, 256)
RESPONSE_TOKENS = (24, 72)
"""Of a pair; longer answers are cut, as generation with a limit would have done it."""
LARGEST_LABEL = 4

Example = dict[str, Any]


def examples(tokenizer: Tokenizer, kind: str, count: int) -> list[Example]:
    """The first `count` examples of a kind (a key of KINDS) that ShareGPT yields."""
    found = KINDS[kind](tokenizer)
    return [example for example, _ in zip(found, range(count), strict=False)]


def tokens_of(kind: str, example: Example) -> int:
    """Useful tokens: no padding, and a pair's prompt twice, since that is what a trainer is asked to learn from."""
    if kind == "pairs":
        return 2 * len(example["prompt"]) + len(example["chosen"]) + len(example["rejected"])
    return len(example["token_ids"])


def documents(tokenizer: Tokenizer) -> Iterator[Example]:
    for messages in _conversations():
        for length in range(min(len(messages), 2 * EXCHANGES) // 2 * 2, 0, -2):
            document = Document.of(*encode_dialogue(tokenizer, messages[:length]))
            if DOCUMENT_TOKENS[0] <= len(document.token_ids) <= DOCUMENT_TOKENS[1]:
                yield {"token_ids": document.token_ids, "trained": document.trained}
                break


def pairs(tokenizer: Tokenizer) -> Iterator[Example]:
    end = end_of_turn_id(tokenizer)
    before: list[int] = []
    for messages in _conversations():
        prompt, answer = encode_prompt(tokenizer, messages[:1]), tokenizer.encode(messages[1]["content"])
        if PROMPT_TOKENS[0] <= len(prompt) <= PROMPT_TOKENS[1] and len(answer) >= RESPONSE_TOKENS[0]:
            if before:
                chosen, rejected = ([*tokens[: RESPONSE_TOKENS[1] - 1], end] for tokens in (answer, before))
                yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            before = answer


def rated(tokenizer: Tokenizer) -> Iterator[Example]:
    yield from _rated(tokenizer, lambda messages, before: [messages[1]])


def rated_twice(tokenizer: Tokenizer) -> Iterator[Example]:
    yield from _rated(tokenizer, lambda messages, before: [messages[1], before[1]] if before else [])


def _rated(tokenizer: Tokenizer, answers: Callable[[list[Message], list[Message]], list[Message]]) -> Iterator[Example]:
    """Each conversation's question with some answers, made of it and of the conversation before, all of which fit."""
    drawn = random.Random(0)
    before: list[Message] = []
    for messages in _conversations():
        found = [encode_conversation(tokenizer, [messages[0], answer]) for answer in answers(messages, before)]
        if all(DOCUMENT_TOKENS[0] <= len(one.token_ids) <= DOCUMENT_TOKENS[1] for one in found):
            for one in found:
                labels = [float(drawn.randint(0, LARGEST_LABEL)) for _ in ATTRIBUTES]
                yield {"token_ids": one.token_ids, "prompt_tokens": one.answer_at, "labels": labels}
        before = messages


KINDS: dict[str, Callable[[Tokenizer], Iterator[Example]]] = {
    "documents": documents,
    "pairs": pairs,
    "rated": rated,
    "rated_twice": rated_twice,
}


def _conversations() -> Iterator[list[Message]]:
    """Conversations that begin with a question and its answer, up to where turns no longer alternate."""
    for turns in sharegpt():
        messages = []
        for turn in turns:
            role = ROLES.get(turn["from"])
            if role != ("user", "assistant")[len(messages) % 2] or not turn["value"].strip():
                break
            messages.append({"role": role, "content": turn["value"].strip()})
        if len(messages) >= 2:
            yield messages
