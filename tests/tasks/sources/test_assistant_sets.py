"""Readers of sets that teach an assistant's manners: CantTalkAboutThis (keep the topic), Glaive (call functions)."""

from typing import Any

import pytest

from tasks.judges.ground_truth import verify
from tasks.sources import canttalkaboutthis, glaive
from tasks.sources.base import READERS, BadRow, Place, Record

MIXTRAL = "canttalkaboutthis_topic_control_mixtral.jsonl"


def rows_of(reader, value, use: Any = "", file="train.json"):
    return [*reader.read(Record(value, Place(file, 1), use, file))]


def refused(reader, value, field, use=""):
    """The record is a bad row that names file, row and field."""
    with pytest.raises(BadRow) as bad:
        rows_of(reader, value, use)
    assert str(bad.value).startswith("train.json, row 1") and field in bad.value.field, bad.value


def roles(row):
    return [message["role"] for message in row["messages"]]


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


ON_TOPIC = [user("Can I open an account?"), bot("Yes. Which kind?"), user("A savings account."), bot("Done.")]
DRIFT = [user("Who won the cup?"), bot("I can only help with accounts.")]


def topic(**changes):
    """A line of CantTalkAboutThis."""
    return {
        "domain": "banking", "scenario": "opening an account", "system_instruction": "Speak of accounts only.",
        "conversation": ON_TOPIC, "distractors": [{"bot turn": "Yes. Which kind?", "distractor": "Who won the cup?"}],
        "conversation_with_distractors": [*ON_TOPIC[:2], *DRIFT, *ON_TOPIC[2:]],
    } | changes  # fmt: skip


def test_topic_dialogues_teach_every_turn():
    (row,) = rows_of(canttalkaboutthis, topic(), file=f"/data/{MIXTRAL}")
    assert row["messages"][0] == {"role": "system", "content": "Speak of accounts only."} and row["teaches"] == "all"
    assert roles(row) == ["system", *["user", "assistant"] * 3] and row["licence"] == "CC-BY-4.0"
    assert rows_of(canttalkaboutthis, topic(), file="gpt4/train.jsonl")[0]["licence"] == "CC-BY-NC-4.0"
    assert rows_of(canttalkaboutthis, topic(), file="mine.jsonl")[0]["licence"] == ""
    assert rows_of(canttalkaboutthis, topic(), file="mixtral/gpt4.jsonl")[0]["licence"] == "CC-BY-NC-4.0"


def test_topic_dialogues_may_be_several_a_line():
    several = [[*ON_TOPIC[:2], *DRIFT], [*ON_TOPIC, *DRIFT]]
    rows = rows_of(canttalkaboutthis, topic(conversation_with_distractors=several))
    assert [len(row["messages"]) for row in rows] == [5, 7]
    prompts = rows_of(canttalkaboutthis, topic(conversation_with_distractors=several), "prompts")
    assert [len(row["messages"]) for row in prompts] == [4, 6]


def test_topic_prompts_end_with_a_distractor_that_is_to_be_turned_down():
    (row,) = rows_of(canttalkaboutthis, topic(), "prompts", file=MIXTRAL)
    assert roles(row) == ["system", "user", "assistant", "user"] and row["topic"] == "banking"
    assert row["messages"][-1]["content"] == "Who won the cup?" and row["licence"] == "CC-BY-4.0"
    assert verify(row["verifier"], "I'm sorry, but I can't help with that. I can only speak about accounts.") is True
    assert verify(row["verifier"], "Brazil won the cup in 2002.") is False


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"system_instruction": None}, "system_instruction"),
        ({"system_instruction": ""}, "system_instruction"),
        ({"conversation_with_distractors": []}, "conversation_with_distractors"),
        ({"conversation_with_distractors": "Hi"}, "conversation_with_distractors"),
        ({"conversation_with_distractors": [*ON_TOPIC, *DRIFT[:1]]}, "messages"),
        ({"conversation_with_distractors": ON_TOPIC[1:]}, "messages"),
        ({"conversation_with_distractors": [user("Hi"), {"role": "bank", "content": "?"}]}, "turn 2, role"),
        ({"conversation_with_distractors": [user("Hi"), bot(3)]}, "turn 2, content"),
        ({"conversation_with_distractors": [user("Hi"), bot(" ")]}, "turn 3"),
        ({"conversation_with_distractors": [ON_TOPIC, "Hi"]}, "conversation 2"),
    ],
)
def test_topic_dialogues_refuse(changes, field):
    refused(canttalkaboutthis, topic(**changes), field)


@pytest.mark.parametrize("distractors", [[], None, ["Who?"], [{"bot turn": "Yes."}], [{"distractor": " "}]])
def test_topic_prompts_refuse(distractors):
    refused(canttalkaboutthis, topic(distractors=distractors), "distractors", "prompts")


SYSTEM = "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n{}"
CALL = """<functioncall> {"name": "sky", "arguments": '{"city": "Oslo"}'}"""
CHAT = (
    f"USER: How is the sky in Oslo?\n\n\nASSISTANT: {CALL} <|endoftext|>\n\n\n"
    'FUNCTION RESPONSE: {"sky": "USER: grey"}\n\n\nASSISTANT: It is grey. <|endoftext|>\n\n\n'
    "USER: Thanks!\n\n\nASSISTANT: You're welcome. <|endoftext|>\n\n\n"
)


def test_glaive_keeps_calls_and_gives_responses_to_the_user():
    (row,) = rows_of(glaive, {"system": SYSTEM, "chat": CHAT})
    assert [message["content"] for message in row["messages"]] == [
        "You are a helpful assistant with access to the following functions. Use them if required -\n{}",
        "How is the sky in Oslo?", CALL, 'FUNCTION RESPONSE: {"sky": "USER: grey"}', "It is grey.", "Thanks!",
        "You're welcome.",
    ]  # fmt: skip
    assert roles(row) == ["system", *["user", "assistant"] * 3]


def test_glaive_v1_is_one_text():
    (row,) = rows_of(glaive, {"sample": f"{SYSTEM}\n{CHAT}"})
    assert row == rows_of(glaive, {"system": SYSTEM, "chat": CHAT})[0]
    (plain,) = rows_of(glaive, {"system": "", "chat": "USER: Hi\nASSISTANT: Hello<|endoftext|>"})
    assert roles(plain) == ["user", "assistant"]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"system": SYSTEM, "chat": "How is the sky?"}, "chat"),
        ({"system": SYSTEM, "chat": "Hm. \nUSER: Hi\nASSISTANT: Hello"}, "chat"),
        ({"system": SYSTEM, "chat": "USER: Hi\nUSER: Hello?\nASSISTANT: Yes"}, "messages"),
        ({"system": SYSTEM, "chat": "ASSISTANT: Hello\nUSER: Hi"}, "messages"),
        ({"system": SYSTEM, "chat": "USER: Hi"}, "messages"),
        ({"system": SYSTEM, "chat": "USER: Hi\nASSISTANT: <|endoftext|>"}, "messages, turn 3"),
        ({"system": SYSTEM, "chat": "USER: Hi\nASSISTANT: Yes\nFUNCTION RESPONSE: {}\nASSISTANT: No"}, "chat"),
        ({"system": SYSTEM, "chat": CHAT.partition("ASSISTANT: It")[0]}, "messages"),
        ({"system": SYSTEM, "chat": "USER: Hi\nSYSTEM: Be brief.\nASSISTANT: Yes"}, "messages"),
        ({"system": None, "chat": CHAT}, "system"),
        ({"system": SYSTEM, "chat": ["USER: Hi"]}, "chat"),
        ({"sample": ""}, "sample"),
        ({"sample": 5}, "sample"),
        ({}, "system"),
    ],
)
def test_glaive_refuses(value, field):
    refused(glaive, value, field)


def test_what_the_registers_say():
    topic_reader, calls = READERS["canttalkaboutthis"], READERS["glaive"]
    assert (topic_reader.licence, topic_reader.synthetic, topic_reader.uses) == ("", True, ("dialogues", "prompts"))
    assert (calls.licence, calls.synthetic, calls.uses) == ("Apache-2.0", True, ("dialogues",))
