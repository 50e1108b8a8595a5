"""The user's own prompts, chats and preferences, with the field names of TRL, NeMo-Aligner, OpenAI and Alpaca."""

import pytest

ASKED = [{"role": "user", "content": "Name a fruit."}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "A pear."}]
TOLD = [{"role": "system", "content": "Be brief."}, *ANSWERED]
LONGER = [*ANSWERED, {"role": "user", "content": "Another?"}, {"role": "assistant", "content": "A fig."}]


class TestPrompts:
    @pytest.mark.parametrize(
        "record",
        [
            {"prompt": "Name a fruit."},
            {"question": " Name a fruit.\n"},
            {"instruction": "Name a fruit."},
            {"instruction": "Name a fruit.", "input": ""},
            {"input": "Name a fruit."},
            {"text": "Name a fruit."},
            {"messages": ASKED},
            {"messages": ANSWERED},
            {"prompt": ASKED},
            {"prompt": "<extra_id_0>System\n\n<extra_id_1>User\nName a fruit.\n<extra_id_1>Assistant\n"},
        ],
    )
    def test_every_form_is_the_same_prompt(self, rows_of, record):
        (row,) = rows_of("prompts", record)
        assert row["messages"] == ASKED and row["unsafe"] is False and row["verifier"] is None

    def test_an_instruction_with_its_input(self, rows_of):
        (row,) = rows_of("prompts", {"instruction": "Translate.", "input": "pomme"})
        assert row["messages"][0]["content"] == "Translate.\n\npomme"

    def test_topic_and_unsafe_are_kept(self, rows_of):
        (row,) = rows_of("prompts", {"prompt": "x", "topic": "fruit", "unsafe": True})
        assert row["topic"] == "fruit" and row["unsafe"] is True

    @pytest.mark.parametrize(("said", "unsafe"), [("true", True), (" TRUE", True), ("False", False), (False, False)])
    def test_unsafe_may_be_text_as_in_csv(self, rows_of, said, unsafe):
        assert rows_of("prompts", {"prompt": "x", "unsafe": said})[0]["unsafe"] is unsafe

    @pytest.mark.parametrize("said", ["yes", "", 1, 0, ["true"]])
    def test_unsafe_in_other_words_is_refused(self, refusal_of, said):
        assert "field 'unsafe': found" in refusal_of("prompts", {"prompt": "x", "unsafe": said})

    @pytest.mark.parametrize(
        ("record", "field"),
        [
            ({"answer": "x"}, "prompt or question or input or text"),
            ({"prompt": " "}, "prompt"),
            ({"prompt": 3}, "prompt"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "wizard", "content": "x"}]}, "messages, turn 1, role"),
            ({"messages": [{"role": "user"}]}, "messages, turn 1, content"),
            ({"messages": ["x"]}, "messages, turn 1"),
            ([1], "expected an object"),
        ],
    )
    def test_what_is_no_prompt_is_refused(self, refusal_of, record, field):
        assert field in refusal_of("prompts", record)


class TestChats:
    @pytest.mark.parametrize(
        "record",
        [
            {"messages": TOLD},
            {"messages": [TOLD[0], {"role": "user", "content": [{"type": "text", "text": "Name a fruit."}]}, TOLD[2]]},
            {"system": "Be brief.", "mask": "User", "type": "VALUE_TO_TEXT",
             "conversations": [{"from": "User", "value": "Name a fruit.", "canonical_form": "", "label": None},
                               {"from": "Assistant", "value": "A pear.", "canonical_form": "", "label": None}]},
            {"conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Name a fruit."},
                               {"from": "gpt", "value": "A pear."}]},
            {"system": "Be brief.", "prompt": "Name a fruit.", "completion": "A pear."},
            {"prompt": TOLD[:2], "completion": TOLD[2:]},
            {"system": "Be brief.", "instruction": "Name a fruit.", "input": "", "output": "A pear."},
            {"system": "Be brief.", "input": "Name a fruit.", "output": "A pear."},
            {"text": "<extra_id_0>System\nBe brief.\n<extra_id_1>User\nName a fruit.\n<extra_id_1>Assistant\nA pear."},
        ],
    )  # fmt: skip
    def test_every_form_is_the_same_dialogue(self, rows_of, record):
        (row,) = rows_of("chats", record)
        assert row["messages"] == TOLD and row["teaches"] == "all"

    def test_an_empty_system_text_is_none(self, rows_of):
        (row,) = rows_of("chats", {"system": "", "mask": "User", "conversations": [
            {"from": "User", "value": "Name a fruit."}, {"from": "Assistant", "value": "A pear."}]})  # fmt: skip
        assert row["messages"] == ANSWERED

    def test_weights_say_which_answers_are_learnt(self, rows_of, refusal_of):
        def weighted(*weights):
            answers = iter(weights)
            return {"messages": [m | ({"weight": next(answers)} if m["role"] == "assistant" else {}) for m in LONGER]}

        assert rows_of("chats", weighted(0, 1))[0]["teaches"] == "last"
        assert rows_of("chats", weighted(1, 1))[0]["teaches"] == "all"
        assert "weight" in refusal_of("chats", weighted(1, 0))

    def test_as_prompts_they_give_what_opens_them(self, rows_of):
        (row,) = rows_of("chats", {"messages": LONGER}, "prompts")
        assert row["messages"] == ASKED and row["synthetic"] is False

    @pytest.mark.parametrize(
        ("record", "field", "reason"),
        [
            ({"messages": ASKED}, "messages, turn 1", "the assistant at the end"),
            ({"messages": ANSWERED[1:]}, "messages, turn 1", "expected the user"),
            ({"messages": [*ANSWERED, *ANSWERED[1:]]}, "messages, turn 3", "expected the user"),
            ({"messages": [*ANSWERED, TOLD[0]]}, "messages, turn 3", "expected the user"),
            ({"messages": [*ASKED, {"role": "assistant", "content": ""}]}, "messages, turn 2", "something in it"),
            ({"messages": [*ASKED, {"role": "assistant", "content": "", "tool_calls": [1]}]}, "messages", "tool calls"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "content", "type"),
            ({"mask": "Assistant", "conversations": [{"from": "User", "value": "a"},
                                                     {"from": "Assistant", "value": "b"}]}, "mask", "User"),
            ({"text": "Name a fruit."}, "text", "extra_id_0"),
            ({"prompt": "Name a fruit."}, "messages or conversations", "found None"),
            ({"prompt": "Name a fruit.", "completion": ""}, "completion", "something in it"),
        ],
    )  # fmt: skip
    def test_what_is_no_dialogue_is_refused(self, refusal_of, record, field, reason):
        said = refusal_of("chats", record)
        assert field in said and reason in said


class TestPreferences:
    CHOSEN, REJECTED = ANSWERED[1:], [{"role": "assistant", "content": "A chair."}]

    @pytest.mark.parametrize(
        "record",
        [
            {"prompt": "Name a fruit.", "chosen": "A pear.", "rejected": "A chair."},
            {"prompt": ASKED, "chosen": CHOSEN, "rejected": REJECTED},
            {"chosen": ANSWERED, "rejected": [*ASKED, *REJECTED]},
            {"prompt": "Name a fruit.", "chosen": ANSWERED, "rejected": [*ASKED, *REJECTED]},
            {"prompt": "<extra_id_0>System\n\n<extra_id_1>User\nName a fruit.\n<extra_id_1>Assistant\n",
             "chosen_response": "A pear.\n<extra_id_1>", "rejected_response": "A chair.\n<extra_id_1>"},
        ],
    )  # fmt: skip
    def test_every_form_is_the_same_pair(self, rows_of, record):
        (row,) = rows_of("preferences", record)
        assert (row["prompt"], row["chosen"], row["rejected"]) == (ASKED, self.CHOSEN, self.REJECTED)
        assert row["chosen_reward"] is None and row["judge"] == "given"

    def test_what_both_begin_with_is_the_prompt(self, rows_of):
        chosen, rejected = LONGER, [*LONGER[:3], {"role": "assistant", "content": "A plum."}]
        (row,) = rows_of("preferences", {"chosen": chosen, "rejected": rejected})
        assert row["prompt"] == LONGER[:3] and row["chosen"] == LONGER[3:]

    @pytest.mark.parametrize("names", [("chosen_reward", "rejected_reward"), ("score_chosen", "score_rejected")])
    @pytest.mark.parametrize("kind", [float, str])
    def test_rewards_are_kept(self, rows_of, names, kind):
        pair = {"prompt": "Name a fruit.", "chosen": "A pear.", "rejected": "A chair."}
        (row,) = rows_of("preferences", pair | {names[0]: kind(3.5), names[1]: kind(1)})
        assert (row["chosen_reward"], row["rejected_reward"]) == (3.5, 1.0)

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"chosen": None}, "chosen or chosen_response"),
            ({"rejected": "A pear."}, "rejected"),
            ({"prompt": None}, "prompt"),
            ({"prompt": ANSWERED}, "prompt, turn 2"),
            ({"chosen_reward": 1.0}, "chosen_reward, rejected_reward"),
            ({"chosen_reward": "good", "rejected_reward": "1"}, "chosen_reward"),
            ({"chosen_reward": float("nan"), "rejected_reward": 1}, "chosen_reward"),
            ({"chosen_reward": 10**400, "rejected_reward": 1}, "chosen_reward"),
            ({"chosen_reward": 1, "rejected_reward": 1.0}, "chosen_reward, rejected_reward"),
            ({"chosen_reward": 1, "rejected_reward": 2}, "chosen_reward, rejected_reward"),
            ({"chosen": [{"role": "user", "content": "x"}]}, "chosen"),
        ],
    )
    def test_what_is_no_pair_is_refused(self, refusal_of, changes, field):
        pair = {"prompt": "Name a fruit.", "chosen": "A pear.", "rejected": "A chair."}
        assert f"field '{field}" in refusal_of("preferences", pair | changes)
