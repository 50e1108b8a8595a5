"""The instruction family in its three forms: driven by known answers, and once by SmolLM2."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from infra.artifacts import Artifact
from tasks.configs.prompts import HELD_OUT_KINDS, TRAINED_KINDS, PromptsConfig
from tasks.evaluation_items import evaluation_topics
from tasks.generation import Ask
from tasks.judges.ground_truth import verify
from tasks.prompts import instruction, instructions
from tasks.prompts.calls import Answer
from tasks.prompts.family import Draft, Job, Topic
from tasks.prompts.instructions.base import FORMS
from tasks.prompts.instructions.forms import announce, form_counts, revise

COFFEE: Topic = {"id": "1" * 32, "topic": "coffee", "macro_topic": "Food"}
QUESTIONS = [f"How is coffee number {word} brewed at home?" for word in "abcdefghijklmnopqrstuvwxyz"]
TOLD = "Coffee Is Old. It Is Hot, Too. It is black."
Say = Callable[[str], str]
"""What the model answers to a conversation, given as one text; "…" at the end stands for the token limit."""


def a_job(wanted: int, **settings: Any) -> Job:
    config = PromptsConfig(**{"oversample": 1.5, "per_call": 26, "kinds": ("lower_case",), **settings})
    return Job("instruction", wanted, config, [COFFEE], evaluation_topics(), Random(0), prefix="0")


def written(job: Job, say: Say) -> list[Draft]:
    """The family's drafts where questions are as above and there are no short documents."""

    def answer(ask: Ask) -> Answer:
        text = "\n".join(message["content"] for message in ask.messages)
        if ask.messages[-1]["content"].startswith("1."):
            listed = "\n".join(f"{number}. {question}" for number, question in enumerate(QUESTIONS, start=1))
            return Answer("" if "Write " in ask.messages[-1]["content"] else listed, True)
        return Answer((said := say(text)).removesuffix("…"), not said.endswith("…"))

    conversation = instruction.write(job)
    asks = next(conversation)
    while True:
        try:
            asks = conversation.send([answer(ask) for ask in asks])
        except StopIteration as ended:
            return ended.value


def payload(draft: Draft) -> dict[str, Any]:
    return json.loads((draft.verifier or {})["payload"])


def of_form(drafts: Sequence[Draft], form: str) -> list[Draft]:
    return [draft for draft in drafts if draft.details["form"] == form]


def test_every_form_has_its_share_and_says_which_it_is() -> None:
    job = a_job(10, kinds=TRAINED_KINDS)
    drafts = written(job, lambda text: TOLD + " We like it. You do too.")
    assert Counter(payload(draft)["form"] for draft in drafts) == {"single_turn": 8, "multi_turn": 1, "second_turn": 1}
    assert all(draft.details["form"] == payload(draft)["form"] for draft in drafts)
    assert all(draft.source == f"{draft.details['form']}:{draft.task}" for draft in drafts)
    assert all(draft.messages[-1]["role"] == "user" for draft in drafts)
    singles = Counter(draft.task for draft in of_form(drafts, "single_turn"))
    assert len(singles) == 8 and not set(singles) & set(HELD_OUT_KINDS)
    formats = {draft.task: draft.answer_format for draft in drafts}
    assert formats.get("json", "json") == "json" and formats.get("bullets", "list") == "list"


def test_single_turns_hold_the_request_and_an_answer_can_pass() -> None:
    drafts = written(a_job(20, forms={"single_turn": 1}, kinds=TRAINED_KINDS), lambda text: "")
    kinds = Counter(draft.task for draft in drafts)
    assert set(kinds) == set(TRAINED_KINDS) and max(kinds.values()) - min(kinds.values()) <= 1
    for draft in drafts:
        request = next(question for question in QUESTIONS if question in draft.messages[0]["content"])
        assert payload(draft)["plain"].startswith(f"{request} ")
        repaired = instructions.repair(payload(draft)["checks"], TOLD + " We like it. You do too.")
        assert repaired is None or verify(draft.verifier, repaired)


def test_answers_under_a_standing_instruction_are_repaired_where_they_fail() -> None:
    (draft,) = of_form(written(a_job(10), lambda text: TOLD), "multi_turn")
    first, *_, last = draft.messages
    assert "[BEGIN OF INSTRUCTION]" in first["content"] and first["content"].count("[END OF INSTRUCTION]") == 1
    assert last["content"] in QUESTIONS and payload(draft)["plain"].startswith(last["content"])
    answers = [message["content"] for message in draft.messages if message["role"] == "assistant"]
    assert answers == [TOLD.lower()] * len(draft.details["answers"]) and set(draft.details["answers"]) == {"repair"}
    assert all(instructions.verify(payload(draft)["checks"], answer) for answer in answers)
    assert [message["role"] for message in draft.messages] == ["user", *["assistant", "user"] * len(answers)]


def test_an_own_answer_that_passes_is_kept_and_later_turns_see_it() -> None:
    heard: list[str] = []

    def say(text: str) -> str:
        heard.append(text)
        return "it is hot and black, they say." if "[BEGIN OF" in text else TOLD

    drafts = of_form(written(a_job(30, forms={"single_turn": 0.5, "multi_turn": 0.5}), say), "multi_turn")
    assert len(drafts) >= 5 and {how for draft in drafts for how in draft.details["answers"]} == {"own"}
    lengths = Counter(len(draft.details["answers"]) for draft in drafts)
    assert set(lengths) == {1, 2}
    assert any(text.count("it is hot and black, they say.") == 1 for text in heard)
    assert not any(text.startswith("How") and "[BEGIN OF" not in text for text in heard), "no plain answer was needed"


@pytest.mark.parametrize("said", ["it is hot and it is…", "it is hot. " * 12])
def test_an_own_answer_that_is_cut_off_or_runs_in_circles_is_not_kept(said: str) -> None:
    drafts = written(a_job(10), lambda text: said if "[BEGIN OF" in text else TOLD)
    (draft,) = of_form(drafts, "multi_turn")
    assert draft.details["answers"][0] == "repair" and draft.messages[1]["content"] == TOLD.lower()


def test_a_standing_instruction_that_nobody_follows_gives_way_to_single_turns() -> None:
    job = a_job(10, kinds=("language",))
    drafts = written(job, lambda text: TOLD)
    assert Counter(draft.details["form"] for draft in drafts) == {"single_turn": 9, "second_turn": 1}
    (lost,) = [entry for entry in job.rejected if entry["reason"] == "standing_unmet"]
    assert (
        lost["messages"][-1] == {"role": "assistant", "content": TOLD} and "[BEGIN OF" in lost["messages"][0]["content"]
    )


def test_a_second_turn_asks_to_revise_what_was_answered() -> None:
    (draft,) = of_form(written(a_job(10), lambda text: TOLD), "second_turn")
    first, answer, last = draft.messages
    assert first["content"] == payload(draft)["plain"] and answer == {"role": "assistant", "content": TOLD}
    assert payload(draft)["draft"] == TOLD and not verify(draft.verifier, TOLD)
    assert instructions.repair(payload(draft)["checks"], TOLD) == TOLD.lower()
    worded = [text.split("{")[0].strip() for text in instructions.words_of("forms")["revisions"]["training"]]
    assert any(last["content"].startswith(text) for text in worded) and first["content"] not in last["content"]


def test_no_answer_is_revised_that_follows_already_or_is_worth_nothing() -> None:
    for said, reason in (
        ("it is hot and black.", "draft_follows"), ("Hot.", "draft_poor"), ("", "draft_poor"),
        ("It is so hot that people…", "draft_poor"), ("It is hot. " * 12, "draft_poor"),
    ):  # fmt: skip
        job = a_job(10, forms={"single_turn": 0.9, "second_turn": 0.1})
        drafts = written(job, lambda text, said=said: said)
        assert not of_form(drafts, "second_turn") and len(drafts) == 10
        assert [entry["reason"] for entry in job.rejected if entry["reason"].startswith("draft")] == [reason]


def test_another_instruction_is_drawn_where_the_answer_follows_the_first() -> None:
    job = a_job(10, forms={"second_turn": 1}, kinds=("lower_case", "capitals"))
    drafts = written(job, lambda text: "it is hot and black.")
    assert {draft.task for draft in drafts} == {"capitals"} and len(drafts) >= 7


def test_an_answer_that_the_limit_cut_off_loses_its_last_sentence() -> None:
    (draft,) = of_form(written(a_job(10), lambda text: "It Is Hot and black. People drink…"), "second_turn")
    assert payload(draft)["draft"] == "It Is Hot and black."


def test_several_instructions_meet_only_where_they_go_together() -> None:
    kinds = ("lower_case", "quotes", "bullets", "end_phrase", "highlight", "no_digits")
    drafts = written(a_job(40, instructions_per_prompt=3, kinds=kinds), lambda text: TOLD + " It warms.")
    sizes = Counter(len(payload(draft)["checks"]) for draft in drafts)
    assert set(sizes) == {1, 2, 3}
    for draft in drafts:
        named = draft.task.split("+")
        assert named == [check["kind"] for check in payload(draft)["checks"]] and len(set(named)) == len(named)
        assert not {"quotes", "end_phrase"} <= set(named) and not {"quotes", "bullets"} <= set(named)
        assert (draft.answer_format == "list") == ("bullets" in named)


@pytest.mark.parametrize(
    ("wanted", "shares", "counts"),
    [
        (110, {"single_turn": 0.8, "multi_turn": 0.1, "second_turn": 0.1}, (88, 11, 11)),
        (10, {"single_turn": 0.98, "multi_turn": 0.01, "second_turn": 0.01}, (8, 1, 1)),
        (6, {"single_turn": 0.8, "multi_turn": 0.1, "second_turn": 0.1}, (4, 1, 1)),
        (3, {"single_turn": 0.8, "multi_turn": 0.1, "second_turn": 0.1}, (3, 0, 0)),
        (7, {"second_turn": 3.0}, (0, 0, 7)),
        (12, {"single_turn": 1.0, "multi_turn": 1.0, "second_turn": 0.0}, (6, 6, 0)),
        *[(n, dict.fromkeys(FORMS, 1.0), (n - 2 * round(n / 3), round(n / 3), round(n / 3))) for n in range(1, 9)],
    ],
)  # fmt: skip
def test_forms_share_what_is_wanted(wanted: int, shares: dict[Any, float], counts: tuple[int, ...]) -> None:
    found = form_counts(wanted, shares)
    assert tuple(found[form] for form in FORMS) == counts and sum(counts) == wanted and min(counts) >= 0


def test_evaluation_has_words_of_its_own_around_an_instruction() -> None:
    check = instructions.draw("lower_case", Random(0))
    said: dict[str, set[str]] = {}
    for use in ("training", "evaluation"):
        turns = [announce([check], ["What is tea?", "Why?"], Random(seed), use) for seed in range(60)]
        assert all(turn[1].message == "Why?" and turn[1].plain.startswith("Why? ") for turn in turns)
        said[use] = {turn[0].message for turn in turns} | {revise([check], Random(seed), use) for seed in range(60)}
    assert len(said["training"]) > 20 and len(said["evaluation"]) > 5 and not said["training"] & said["evaluation"]


def test_settings_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"at least one form a share above 0"):
        PromptsConfig(forms={"single_turn": 0})
    with pytest.raises(ValidationError, match=r"\['options'\] can be asked as \['multi_turn', 'second_turn'\]"):
        PromptsConfig(kinds=("options",))
    assert PromptsConfig(kinds=("options",), forms={"single_turn": 1}).instructions_per_prompt == 1
    with pytest.raises(ValidationError, match="third_turn"):
        PromptsConfig.model_validate({"forms": {"third_turn": 1}})


def test_smollm_writes_all_three_forms(written: Artifact) -> None:
    rows = [row for row in written.rows() if row["family"] == "instruction"]
    forms = Counter(json.loads(row["details"])["form"] for row in rows)
    assert set(forms) == set(FORMS) and sum(forms.values()) <= 6
    for row in rows:
        known = json.loads(row["verifier"]["payload"])
        answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        if known["form"] == "multi_turn":
            assert answers and all(verify(row["verifier"], answer) for answer in answers)
        if known["form"] == "second_turn":
            assert answers == [known["draft"]] and not verify(row["verifier"], answers[0])
