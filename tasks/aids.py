"""Aids to a passing answer, for verifiable prompts that the model's own answers fail.

A model that never samples a passing answer cannot learn from sampling. An aid produces one; what is stored is the
prompt without the aid, so that training asks for the behaviour itself, and the model's own failure becomes the rejected
side. An aid is one function here and its name in `AIDS`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.engine import SamplingParams
from tasks.configs.responses import Aid
from tasks.generation import Ask, Writer
from tasks.judges.ground_truth import verify
from tasks.prompts.instructions import repair
from tasks.selection import Row

_PREFILLS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "quotes": lambda params: '"',
    "json": lambda params: f'{{"{params["key"]}": "',
    "title": lambda params: "<<",
    "square_brackets": lambda params: "[",
    "answer_tags": lambda params: "<answer>",
    "start_phrase": lambda params: params["phrase"],
    "bullets": lambda params: "- ",
    "numbered": lambda params: "1. ",
    "quoted_lines": lambda params: "> ",
    "highlight": lambda params: "**",
    "code_block": lambda params: "```\n",
    "heading": lambda params: "# ",
    "steps": lambda params: "Step 1: ",
    "sections": lambda params: f"{params['marker']} 1\n",
    "repeat_request": lambda params: f"{params['request'].strip()}\n\n",
}
"""How an answer to each instruction kind begins, where that is fixed."""


@dataclass(frozen=True)
class Helped:
    """An answer that an aid produced; whether it passes is for ground truth to say."""

    text: str
    finish_reason: str
    parents: tuple[str, ...] = ()
    """Rows that it was made from, besides the prompt."""


@dataclass(frozen=True)
class Case:
    """A prompt without a good plain answer."""

    prompt: Row
    failures: Sequence[Row]
    """The model's own answers."""


@dataclass(frozen=True)
class Example:
    """A prompt with an answer that passed."""

    prompt: Row
    answer: str


@dataclass(frozen=True)
class Bench:
    """What the aids work with: a model, its settings, and answers that passed, by `subject`."""

    writer: Writer
    params: SamplingParams
    shots: int
    solved: dict[str, list[Example]]
    """Grows as aids succeed."""


def subject(prompt: Row) -> str:
    """What a prompt's verifier checks: the instruction kinds, else the verifier's kind."""
    checks = _payload(prompt).get("checks")
    return "+".join(check["kind"] for check in checks) if checks else prompt["verifier"]["kind"]


def repair_by_code(bench: Bench, cases: Sequence[Case]) -> list[Helped | None]:
    """The first to pass after code changed it: the answer to be revised, one to the request without its instruction,
    the own failures."""
    drafts = [_first_repaired(case, [(_payload(case.prompt).get("draft", ""), ())]) for case in cases]
    with_plain = [
        case for case, draft in zip(cases, drafts, strict=True) if not draft and "plain" in _payload(case.prompt)
    ]
    asks = [
        Ask(f"{case.prompt['id']}/repair", _asked(_payload(case.prompt)["plain"]), bench.params) for case in with_plain
    ]
    plain = {case.prompt["id"]: result.text for case, result in zip(with_plain, bench.writer.write(asks), strict=True)}
    return [draft or _first_repaired(case, _sources(case, plain)) for case, draft in zip(cases, drafts, strict=True)]


Source = tuple[str, tuple[str, ...]]
"""A text and the rows that it comes from, besides the prompt."""


def _sources(case: Case, plain: Mapping[str, str]) -> list[Source]:
    return [(plain.get(case.prompt["id"], ""), ()), *((row["response"], (row["id"],)) for row in case.failures)]


def _first_repaired(case: Case, sources: Sequence[Source]) -> Helped | None:
    checks = _payload(case.prompt).get("checks", [])
    for text, parents in sources if checks else ():
        repaired = repair(checks, text) if text.strip() else None
        if repaired is not None:
            return Helped(repaired, "stop", parents)
    return None


def show_examples(bench: Bench, cases: Sequence[Case]) -> list[Helped | None]:
    """The prompt after answers to other prompts with the same subject that passed."""
    shown = [
        [one for one in bench.solved.get(subject(case.prompt), ()) if one.prompt["id"] != case.prompt["id"]]
        for case in cases
    ]
    asks = {
        case.prompt["id"]: Ask(
            f"{case.prompt['id']}/few_shot", _examples(examples, bench.shots, case.prompt), bench.params
        )
        for case, examples in zip(cases, shown, strict=True)
        if examples
    }
    return _answers(bench, cases, asks, {})


def begin_answer(bench: Bench, cases: Sequence[Case]) -> list[Helped | None]:
    """The answer's fixed first characters, which the model goes on from."""
    begun = {case.prompt["id"]: start for case in cases if (start := _beginning(case.prompt))}
    asks = {
        case.prompt["id"]: Ask(
            f"{case.prompt['id']}/prefill",
            [*case.prompt["messages"], {"role": "assistant", "content": begun[case.prompt["id"]]}],
            bench.params,
        )
        for case in cases
        if case.prompt["id"] in begun
    }
    return _answers(bench, cases, asks, begun)


AIDS: dict[Aid, Callable[[Bench, Sequence[Case]], list[Helped | None]]] = {
    "repair": repair_by_code, "few_shot": show_examples, "prefill": begin_answer,
}  # fmt: skip


def help_out(aids: Sequence[Aid], bench: Bench, cases: Sequence[Case]) -> dict[str, tuple[Aid, Helped]]:
    """By prompt id, the first aid's answer that passes ground truth; prompts that none helps are left out."""
    found: dict[str, tuple[Aid, Helped]] = {}
    for aid in aids:
        open_cases = [case for case in cases if case.prompt["id"] not in found]
        for case, helped in zip(open_cases, AIDS[aid](bench, open_cases) if open_cases else (), strict=True):
            if helped and helped.finish_reason == "stop" and verify(case.prompt["verifier"], helped.text):
                found[case.prompt["id"]] = aid, helped
                bench.solved.setdefault(subject(case.prompt), []).append(Example(case.prompt, helped.text))
    return found


def _answers(
    bench: Bench, cases: Sequence[Case], asks: Mapping[str, Ask], begun: Mapping[str, str]
) -> list[Helped | None]:
    results = dict(zip(asks, bench.writer.write(list(asks.values())), strict=True))
    return [
        Helped(begun.get(key, "") + results[key].text.rstrip(), results[key].finish_reason) if key in results else None
        for key in (case.prompt["id"] for case in cases)
    ]


def _examples(solved: Sequence[Example], shots: int, prompt: Row) -> list[dict[str, str]]:
    turns = [[*one.prompt["messages"], {"role": "assistant", "content": one.answer}] for one in solved[:shots]]
    return [message for turn in turns for message in turn] + list(prompt["messages"])


def _beginning(prompt: Row) -> str:
    payload = _payload(prompt)
    fixed = [
        _PREFILLS[check["kind"]](check["params"]) for check in payload.get("checks", []) if check["kind"] in _PREFILLS
    ]
    return payload.get("start") or next(iter(fixed), "")


def _asked(request: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": request}]


def _payload(prompt: Row) -> dict[str, Any]:
    payload = json.loads(prompt["verifier"]["payload"])
    return payload if isinstance(payload, dict) else {}
