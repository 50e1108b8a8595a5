"""Tasks that nobody can do who only writes text, driven by what SmolLM2 wrote, well and badly."""

import pytest

from tasks.generation import Ask
from tasks.judges.ground_truth import verifier, verify
from tasks.prompts import incapable
from tests.tasks.prompts.conversations import payload, request, respond
from tests.tasks.prompts.test_families import COFFEE, a_job, reasons


def test_both_classes_of_each_kind_have_their_share_and_their_verdict() -> None:
    topics = [{**COFFEE, "topic": topic} for topic in ("coffee", "trains", "rivers", "maps")]
    job = a_job("incapable", 8, topics)

    def say(ask: Ask) -> str:
        topic = request(ask).split("Topic: ")[1].split(".")[0]
        return f"{ask.messages[-1]['content']} my cousin and the {topic} in his house. And tell him that he is…"

    drafts = respond(incapable.write(job), say)
    assert len(drafts) >= 12 and [draft.details["can"] for draft in drafts] == [False, True] * (len(drafts) // 2)
    for cannot, can in zip(drafts[::2], drafts[1::2], strict=True):
        assert payload(can) == {"refuse": False}
        assert verify(cannot.verifier, payload(cannot)["start"]) is True
        assert verify(can.verifier, payload(cannot)["start"]) is False
        assert cannot.messages[0]["content"].startswith(tuple(incapable.KINDS[cannot.task]["cannot"]))
        assert can.messages[0]["content"].startswith(tuple(incapable.KINDS[can.task]["can"]))
        assert can.messages[0]["content"].endswith("in his house.")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Smell the smell of smoke and tell me what it is.", "off_topic"),
        ("Book two seats in the first row for the coffee concert on Friday.", "copies_an_example"),
        ("Play me some music for coffee", "unfinished"),
        ("Call the coffee shop on the bicycle and…", "too_short"),
        ("Post a message online that says \"We drink coffee.", "unfinished"),
        ("Watch the penguins drink their coffee.", "evaluation_topic"),
    ],
)  # fmt: skip
def test_requests_that_are_none_are_rejected(said: str, reason: str) -> None:
    job = a_job("incapable", 40)
    assert respond(incapable.write(job), lambda ask: said) == [] or reason == "copies_an_example"
    assert reasons(job)[reason] > 0


def test_examples_lie_on_the_right_side() -> None:
    """Every kind's examples begin as their class does, and its refusal is one."""
    assert len(incapable.KINDS) >= 12
    for kind in incapable.KINDS.values():
        assert verify(verifier("refusal", {"refuse": True}), kind["start"]) is True
        assert not set(kind["cannot"]) & set(kind["can"])
        for side in incapable.CLASSES:
            assert all(shown[0].isupper() for _, shown in kind["shots"][side]) and len(kind[side]) >= 4
