"""Readers of conversations with a model: ShareGPT and LMSYS-Chat-1M."""

import pytest


def shared(*turns, identity="QWJhYvA_0"):
    """A record of ShareGPT's dumps."""
    return {"id": identity, "conversations": [{"from": name, "value": value} for name, value in turns]}


ASKED = ("human", "Why is <b> bold?")
HTML = ("gpt", '<div class="markdown prose"><p>It is <em>markup</em>.</p></div>')
MORE = ("human", "And <i>?")


class TestShareGPT:
    @pytest.mark.parametrize("use", ["", "openers", "prompts"])
    def test_the_first_human_turn_opens(self, rows_of, use):
        (row,) = rows_of("sharegpt", shared(ASKED, HTML, MORE), use)
        assert row["messages"] == [{"role": "user", "content": "Why is <b> bold?"}] and "synthetic" not in row

    def test_a_dialogue_goes_up_to_the_last_answer_and_its_html_is_text(self, rows_of):
        (row,) = rows_of("sharegpt", shared(ASKED, HTML, MORE), "dialogues")
        assert [message["content"] for message in row["messages"]] == ["Why is <b> bold?", "It is *markup*."]
        assert row["synthetic"] is True

    def test_markdown_answers_stay(self, rows_of):
        answer = "Use:\n```html\n<p>a</p>\n```"
        (row,) = rows_of("sharegpt", shared(ASKED, ("gpt", answer)), "dialogues")
        assert row["messages"][1]["content"] == answer

    @pytest.mark.parametrize("use", ["openers", "dialogues"])
    def test_what_goes_on_with_an_earlier_part_is_passed_over(self, rows_of, use):
        assert rows_of("sharegpt", shared(HTML, MORE, HTML, identity="QWJhYvA_12"), use) == []
        assert rows_of("sharegpt", shared(MORE, HTML, identity="QWJhYvA_1"), use) == []
        assert rows_of("sharegpt", shared(), use) == []

    def test_a_dump_without_parts_is_read(self, rows_of):
        assert len(rows_of("sharegpt", shared(ASKED, HTML, identity="a_b"))) == 1
        assert rows_of("sharegpt", shared(HTML, MORE, identity="a_b")) == []

    def test_a_system_turn_is_no_opener(self, rows_of):
        (row,) = rows_of("sharegpt", shared(("system", "Be kind."), ASKED, HTML))
        assert [message["role"] for message in row["messages"]] == ["user"]

    @pytest.mark.parametrize(
        ("record", "use", "field"),
        [
            ({"id": "a"}, "openers", "conversations"),
            ({"id": "a", "conversations": "hello"}, "openers", "conversations"),
            (shared(("alien", "x")), "openers", "conversations, turn 1, from"),
            (shared(("human", None)), "openers", "conversations, turn 1, value"),
            (shared(("human", "")), "openers", "messages, turn 1"),
            (shared(ASKED, MORE, HTML), "dialogues", "messages, turn 2"),
            (shared(ASKED, ("gpt", "<p> </p>")), "dialogues", "messages, turn 2"),
            (shared(ASKED, ("gpt", "<p>" + "<b>" * 3000)), "dialogues", "conversations"),
            (shared(ASKED, ("gpt", "<p>hi <![n>")), "dialogues", "conversations"),
        ],
    )
    def test_what_is_no_conversation_is_refused(self, refusal_of, record, use, field):
        assert f"field '{field}'" in refusal_of("sharegpt", record, use)


def chat(*messages, flagged=(), **changes):
    """A record of LMSYS-Chat-1M."""
    roles = ("user", "assistant")
    moderation = [
        {"categories": {"hate": place in flagged}, "category_scores": {"hate": 0.1}, "flagged": place in flagged}
        for place in range(len(messages))
    ]
    return {
        "conversation_id": "c0ffee", "model": "vicuna-13b",
        "conversation": [{"content": text, "role": roles[place % 2]} for place, text in enumerate(messages)],
        "turn": len(messages) // 2, "language": "English", "openai_moderation": moderation, "redacted": False,
        **changes,
    }  # fmt: skip


class TestLmsysChat:
    def test_the_first_turn_is_a_prompt(self, rows_of):
        (row,) = rows_of("lmsys_chat", chat("Hello?", "Hello!", "More?", "No."))
        assert row["messages"] == [{"role": "user", "content": "Hello?"}]
        assert (row["unsafe"], row["language"]) == (False, "en")
        assert row["details"] == '{"conversation_id":"c0ffee","redacted":false}'

    def test_a_prompt_is_unsafe_where_it_is_flagged_itself(self, rows_of):
        assert rows_of("lmsys_chat", chat("Bad?", "No.", flagged=(0,)))[0]["unsafe"] is True
        assert rows_of("lmsys_chat", chat("Good?", "Bad.", flagged=(1,)))[0]["unsafe"] is False

    def test_dialogues_are_whole_and_none_of_them_is_flagged(self, rows_of):
        (row,) = rows_of("lmsys_chat", chat("Hello?", "Hello!"), "dialogues")
        assert len(row["messages"]) == 2 and row["synthetic"] is True
        assert rows_of("lmsys_chat", chat("Hello?", "Bad!", flagged=(1,)), "dialogues") == []

    def test_names_that_were_blacked_out_are_told(self, rows_of):
        assert '"redacted":true' in rows_of("lmsys_chat", chat("I am NAME_1", "Hello!", redacted=True))[0]["details"]

    @pytest.mark.parametrize(("language", "code"), [("Portuguese", "pt"), ("unknown", ""), ("Klingon", "")])
    def test_languages_have_their_codes(self, rows_of, language, code):
        assert rows_of("lmsys_chat", chat("Hello?", "Hello!", language=language))[0]["language"] == code

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"conversation": []}, "conversation"),
            ({"openai_moderation": []}, "openai_moderation"),
            ({"openai_moderation": [{"flagged": False}]}, "openai_moderation"),
            ({"openai_moderation": [{"flagged": False}, {"flagged": "no"}]}, "openai_moderation, item 2"),
            ({"language": None}, "language"),
            ({"redacted": "no"}, "redacted"),
            ({"conversation_id": ""}, "conversation_id"),
            ({"conversation": [{"content": "Hi", "role": "assistant"}] * 2}, "messages, turn 1"),
        ],
    )
    def test_other_records_are_refused(self, refusal_of, changes, field):
        assert f"field '{field}'" in refusal_of("lmsys_chat", chat("Hello?", "Hello!", **changes))
