"""Topic keeping, driven by what SmolLM2 wrote, well and badly."""

from collections import Counter

import pytest

from tasks.generation import Ask
from tasks.judges.ground_truth import verify
from tasks.prompts import topic_keeping
from tests.tasks.prompts.conversations import Say, payload, request, respond
from tests.tasks.prompts.test_families import COFFEE, a_job, reasons

SCENARIOS = {scenario["place"]: scenario for scenario in topic_keeping.TEMPLATE["scenarios"]}


def shop_talk(questions: str, reply: str, distractors: str) -> Say:
    def say(ask: Ask) -> str:
        if ask.messages[0]["role"] == "system":
            return reply
        return questions if "People write to" in request(ask) else distractors

    return say


@pytest.fixture
def only_the_gym(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(topic_keeping.TEMPLATE, "scenarios", [SCENARIOS["a gym"]])


GYM = "1. What does a membership cost for a student?\n2. Which training plan is right for my back?\n3. Thanks."
REPLY = "A membership costs less for students. Bring a card of your school and come to the desk."
STRAYED = (
    "1. Where does coffee come from at first?\n2. Is coffee good for muscle training?\n3. Who sold the first coffee?\n"
    "4. Why do people drink coffee at night?\n5. Which coffee has the most aroma?"
)


@pytest.mark.usefixtures("only_the_gym")
def test_half_of_the_users_stray_from_the_topic_and_half_do_not() -> None:
    job = a_job("topic_keeping", 4)
    drafts = respond(topic_keeping.write(job), shop_talk(GYM, REPLY, STRAYED))
    assert Counter(draft.task for draft in drafts) == {"distractor": 2, "on_topic": 2}
    for draft in drafts:
        system, first, reply, last = (message["content"] for message in draft.messages)
        assert [message["role"] for message in draft.messages] == ["system", "user", "assistant", "user"]
        assert "Iron and Oak" in system and "training plans" in system and reply == REPLY
        assert first == "What does a membership cost for a student?"
        strayed = draft.task == "distractor"
        assert payload(draft)["refuse"] is strayed and (payload(draft).get("about", "—") in last) is strayed
        assert ("coffee" in last, draft.topic is COFFEE) == (strayed, strayed) and "muscle" not in last
    refusal = payload(next(draft for draft in drafts if draft.task == "distractor"))["start"]
    assert verify(drafts[0].verifier, refusal) is True and "training plans" in refusal


@pytest.mark.usefixtures("only_the_gym")
def test_talks_that_fail_before_the_last_turn_are_rejected() -> None:
    def rejected(questions: str, reply: str) -> Counter[str]:
        job = a_job("topic_keeping", 1)
        assert respond(topic_keeping.write(job), shop_talk(questions, reply, STRAYED)) == []
        return reasons(job)

    off_topic = "1. What is a special on the cookery school?\n2. What happens to the money?\n3. Can I pack a penguin?"
    assert rejected(off_topic, REPLY)["question_off_topic"] == 3
    copied = "1. Which course is right for a beginner?\n2. Do I need special shoes for the course?\n3. Which course?"
    assert rejected(copied, REPLY)["question_copies_an_example"] >= 1
    assert (
        rejected(GYM, "I'm sorry, but I'm unable to offer you a membership at this gym today.")["answer_declines"] == 1
    )
    circles = "I'm a gym and I don't give you any money without a card. " * 3
    assert rejected(GYM, circles)["answer_runs_in_circles"] == 1
    assert rejected(GYM, "Our gym lies behind the polar bear house, on the left side.")["answer_evaluation_topic"] == 1
