"""Function calling: functions in the system message, and a request that one of them serves, or none (after Glaive;
paper, section 3.2.5). Code draws the values, the generator words the request; one that lost a value is rejected.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tasks.judges.ground_truth import verifier
from tasks.judges.verifiers.function_call import MARKER
from tasks.prompts import open_qa
from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft, Job, Topic, register, template
from tasks.prompts.quality import copies, flaw, names, stems
from tasks.prompts.sentences import sentences

TEMPLATE = template("function_calling")
Function = Mapping[str, Any]
FUNCTIONS: list[Function] = TEMPLATE["functions"]
MOST_SHOWN = 3


@dataclass(frozen=True)
class Call:
    function: Function
    arguments: Mapping[str, Any]

    @property
    def request(self) -> str:
        """In plain words."""
        return self.function["request"].format(**self.arguments)

    @property
    def start(self) -> str:
        """The call up to its last value."""
        told = json.dumps({"name": self.function["name"], "arguments": self.arguments}, ensure_ascii=False)
        last = json.dumps([*self.arguments.values()][-1], ensure_ascii=False)
        return f"{MARKER} {told.removesuffix(last + '}}')}".rstrip()


@register("function_calling")
def write(job: Job) -> Conversation:
    without = round(job.wanted * TEMPLATE["no_call_share"])
    calls = [_drawn(job) for _ in range(job.drafts(1, job.wanted - without))]
    reword = TEMPLATE["reword"]
    answers = yield [
        job.ask(reword, request=call.request, values=", ".join(map(str, call.arguments.values())),
                opening=job.rng.choice(reword["openings"]))
        for call in calls
    ]  # fmt: skip
    drafts = []
    for call, answer in zip(calls, answers, strict=True):
        text = _worded(answer, call)
        if fault := _fault(text, call, job):
            job.reject(fault, answer.text, call.request)
        else:
            drafts.append(_draft(job, text, call))
    others = yield from open_qa.draft(job, without)
    drafts = drafts[: job.wanted - without] + [_no_call(job, topic, text) for topic, text in others[:without]]
    job.rng.shuffle(drafts)
    return drafts


def _drawn(job: Job) -> Call:
    function = job.rng.choice(FUNCTIONS)
    return Call(function, {name: job.rng.choice(one["values"]) for name, one in function["arguments"].items()})


def _worded(answer: Answer, call: Call) -> str:
    """The first whole sentence where it holds all values, else the first two."""
    told = sentences(answer.text)
    whole = told if answer.finished else told[:-1]
    return whole[0] if whole and _holds(whole[0], call) else " ".join(whole[:2])


def _holds(text: str, call: Call) -> bool:
    values = map(str, call.arguments.values())
    return all(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) for value in values)


def _fault(text: str, call: Call, job: Job) -> str:
    values = " ".join(map(str, call.arguments.values()))
    if not _holds(text, call):
        return "lost_a_value"
    if set(re.findall(r"\d+", text)) - set(re.findall(r"\d+", values)):
        return "another_number"
    if not (stems(call.request) - stems(values)) & stems(text):
        return "off_topic"
    if copies(text, TEMPLATE["reword"]):
        return "copies_an_example"
    return "evaluation_topic" if names(text, job.reserved) else flaw(text)


def _draft(job: Job, text: str, call: Call) -> Draft:
    name = call.function["name"]
    shown = [call.function, *_others([name], job.rng, job.rng.randrange(MOST_SHOWN))]
    payload = {"name": name, "arguments": call.arguments, "start": call.start}
    return Draft(
        None, _messages(job, shown, text), "reworded", "function_call", "call", verifier("function_call", payload),
        licences=(TEMPLATE["licence"],), details={"function": name, "shown": len(shown)},
    )  # fmt: skip


def _no_call(job: Job, topic: Topic, text: str) -> Draft:
    near = [one["name"] for one in FUNCTIONS if stems(f"{one['request']} {one['description']}") & stems(text)]
    shown = _others(near, job.rng, job.rng.randint(1, MOST_SHOWN))
    return Draft(
        topic, _messages(job, shown, text), "no_call", "no_function_fits", "paragraph",
        verifier("function_call", {"name": None}), licences=(TEMPLATE["licence"],),
        details={"function": "", "shown": len(shown)},
    )  # fmt: skip


def _others(but: Sequence[str], rng: Random, count: int) -> list[Function]:
    return rng.sample([one for one in FUNCTIONS if one["name"] not in but], count)


def _messages(job: Job, shown: Sequence[Function], text: str) -> list[dict[str, str]]:
    told = "\n".join(json.dumps(schema(one), ensure_ascii=False) for one in job.rng.sample(shown, len(shown)))
    system = job.rng.choice(TEMPLATE["systems"]).format(functions=told)
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def schema(function: Function) -> dict[str, Any]:
    """As the model sees it: a JSON schema without the catalogue's own values."""
    properties = {
        name: {key: value for key, value in one.items() if key != "values"}
        for name, one in function["arguments"].items()
    }
    return {
        "name": function["name"],
        "description": function["description"],
        "parameters": {"type": "object", "properties": properties, "required": list(properties)},
    }
