"""Function calls, driven by requests that SmolLM2 worded, well and badly."""

import json
from collections import Counter

import pytest

from tasks.generation import Ask
from tasks.judges.ground_truth import verify
from tasks.judges.verifiers.function_call import parse_call
from tasks.prompts import function_calling
from tasks.prompts.calls import Answer
from tests.tasks.prompts.conversations import payload, request, respond
from tests.tasks.prompts.test_families import a_job, reasons


def reworded(ask: Ask) -> str:
    if "Say it in other words" not in request(ask):
        return "1. Where does coffee come from at first?\n2. Who sold the first coffee?\n3. Why is coffee so popular?"
    return "My aunt wants this: " + request(ask).split("\n")[0].removeprefix("Request: ")


def test_requests_hold_every_value_and_some_fit_no_function() -> None:
    job = a_job("function_calling", 16)
    drafts = respond(function_calling.write(job), reworded)
    assert Counter(draft.task for draft in drafts) == {"function_call": 12, "no_function_fits": 4} or len(drafts) == 15
    for draft in drafts:
        system, said = (message["content"] for message in draft.messages)
        wanted = payload(draft)
        assert system.count('"parameters"') == draft.details["shown"] <= 3
        if draft.task == "function_call":
            call = {"name": wanted["name"], "arguments": wanted["arguments"]}
            assert wanted["name"] in system and all(str(value) in said for value in wanted["arguments"].values())
            assert verify(draft.verifier, f"<functioncall> {json.dumps(call)}") is True
            last = json.dumps(wanted["arguments"][wanted["start"].split('"')[-2]])
            assert verify(draft.verifier, f"{wanted['start']} {last}}}}}") is True
        else:
            assert wanted["name"] is None and verify(draft.verifier, "Coffee comes from Ethiopia.") is True
    assert {draft.answer_format for draft in drafts} == {"call", "paragraph"}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Can you find it by car, please?", "lost_a_value"),
        ("{request} That is a set of 999 in all.", ""),
        ("I have 977 reasons: {request}", "another_number"),
        ("{values} and so on, they all said.", "off_topic"),
        ("{request} with my aunt", "unfinished"),
    ],
)
def test_requests_that_lost_or_gained_something_are_rejected(said: str, reason: str) -> None:
    job = a_job("function_calling", 8)

    def say(ask: Ask) -> str:
        shown, _, kept = request(ask).partition("\nSay it in other words. Keep: ")
        plain = shown.removeprefix("Request: ")
        return said.format(request=plain if reason != "unfinished" else plain[:-1], values=kept.removesuffix("."))

    conversation = function_calling.write(job)
    texts = [say(ask) for ask in next(conversation)]
    conversation.send([Answer(text, True) for text in texts])
    assert len(reasons(job)) == bool(reason) and reasons(job)[reason] == (len(texts) if reason else 0)


def test_the_catalogue_is_whole() -> None:
    assert len(function_calling.FUNCTIONS) >= 25
    assert len({one["name"] for one in function_calling.FUNCTIONS}) == len(function_calling.FUNCTIONS)
    for one in function_calling.FUNCTIONS:
        shown = function_calling.schema(one)
        assert shown["parameters"]["required"] == list(one["arguments"]) and "values" not in json.dumps(shown)
        for name, argument in one["arguments"].items():
            assert f"{{{name}}}" in one["request"]
            kind = {"string": str, "integer": int, "number": (int, float)}[argument["type"]]
            assert all(isinstance(value, kind) for value in argument["values"])
            assert set(argument.get("enum", argument["values"])) >= set(argument["values"])
        call = {"name": one["name"], "arguments": {name: how["values"][0] for name, how in one["arguments"].items()}}
        assert parse_call(f"<functioncall> {json.dumps(call)}") == (call["name"], call["arguments"])
