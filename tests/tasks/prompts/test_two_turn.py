"""Two-turn prompts, driven by answers and second turns that SmolLM2 gave."""

from collections.abc import Sequence

import pytest

from tasks.evaluation_items import evaluation_topics
from tasks.generation import Ask
from tasks.prompts import two_turn
from tasks.prompts.family import Draft, Job, Row
from tasks.prompts.quality import names
from tasks.prompts.two_turn import shipped_openers
from tasks.rows import PROMPT, make_row
from tests.tasks.prompts.test_families import a_job, play, reasons

ANSWER = (
    "Packing for a camping trip with two kids can be overwhelming. Here's a list of things to pack:\n\n"
    "1. Backpack: A sturdy, waterproof backpack with ample space for your kids' gear."
)


def opener(text: str, *more: str) -> Row:
    messages = [
        {"role": "user" if place % 2 == 0 else "assistant", "content": said} for place, said in enumerate((text, *more))
    ]
    values = {"family": "sharegpt", "messages": messages, "source": "sharegpt", "licence": "CC0-1.0"}
    return make_row(PROMPT, values, messages)


def a_talk(*rounds: Sequence[str]) -> tuple[Job, list[Draft], list[list[Ask]]]:
    job = a_job("two_turn", 1, material={"openers": [opener("what to pack for a camping trip with two kids")]})
    return job, *play(two_turn.write(job), *rounds)


def test_the_second_turn_stands_after_the_opener_and_its_answer() -> None:
    job = a_job("two_turn", 1, material={"openers": [opener("things to pack for camping w/ 2 kids", "Sure.", "ok?")]})
    turn = "Which kind of backpack is waterproof? The backpack is waterproof if it says so."
    drafts, asked = play(two_turn.write(job), [ANSWER + " A second pair of sho…"], [turn])
    assert [message["role"] for message in drafts[0].messages] == ["user", "assistant", "user"]
    first, answer, last = (message["content"] for message in drafts[0].messages)
    assert (first, answer) == ("things to pack for camping w/ 2 kids", ANSWER)
    assert last == "Which kind of backpack is waterproof?"
    assert drafts[0].parents == (job.material["openers"][0]["id"],) and drafts[0].licences == ("CC0-1.0",)
    assert drafts[0].task == "follow_up" and drafts[0].topic is None and drafts[0].verifier is None
    assert asked[0][0].messages == [{"role": "user", "content": first}]
    shown, opening = (message["content"] for message in asked[1][0].messages[-2:])
    assert first in shown and ANSWER in shown
    assert opening in two_turn.TEMPLATE["variants"][drafts[0].details["variant"]]


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ("Rewrite your answer so that the user's request is no longer a critical one.", "follow_up_assistant_like"),
        ("What is the difference between a marathon and a half marathon?", "follow_up_off_topic"),
        ("Can you give me an example of a penguin who likes camping?", "follow_up_evaluation_topic"),
        ("Thank you very much!", "follow_up_empty"),
        ("How does that compare with what happens to your savings in the bank?", "follow_up_copies_an_example"),
        ("How do I know that the backpack is a sturdy waterproof one and that…", "follow_up_empty"),
        ("what to pack for a camping trip with two small kids?", "follow_up_repeats"),
        ("Rewrite your answer so that", "follow_up_unfinished"),
    ],
)
def test_what_is_no_second_turn_is_rejected(turn: str, reason: str) -> None:
    job, drafts, _ = a_talk([ANSWER], [turn])
    assert drafts == [] and reasons(job) == {reason: 1}
    assert [message["role"] for message in job.rejected[0]["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Sure!", "answer_too_short"),
        ("S: Hey there, our coffee shop opens on Sundays!\nSmolLM: Happy Sunday to all of you!", "answer_plays_roles"),
        ("A list of things that you need on a camping trip with…", "answer_too_short"),
        ("It's a name that has a lot of positive energy. " * 3, "answer_runs_in_circles"),
    ],
)
def test_an_answer_nobody_can_go_on_from_ends_it(answer: str, reason: str) -> None:
    job, drafts, asked = a_talk([answer], [])
    assert drafts == [] and reasons(job) == {reason: 1} and asked[1] == []


def test_openers_that_do_not_suit_are_left_out() -> None:
    unfit = [opener("hi there"), opener("word " * 80), opener("Tell me all about coral reefs, please"),
             opener("What do you pack?")]  # fmt: skip
    job = a_job("two_turn", 4, material={"openers": unfit})
    assert [ask.messages[0]["content"] for ask in next(two_turn.write(job))] == ["What do you pack?"]


def test_the_project_ships_openers_of_its_own() -> None:
    rows = shipped_openers()
    assert len({row["id"] for row in rows}) == len(rows) >= 60
    assert {(row["licence"], row["synthetic"], row["source"]) for row in rows} == {
        ("Apache-2.0", False, "two_turn/openers")
    }
    assert not [row for row in rows if names(row["messages"][0]["content"], evaluation_topics())]
    asked = next(two_turn.write(a_job("two_turn", 5)))
    assert len(asked) == 5
