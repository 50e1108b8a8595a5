"""Lists out of answers as a small model really gives them."""

import pytest

from tasks.prompts.lists import is_literal, parse_list


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("1. Business\n2. Sports\n\nHere is the list:\n3) Health", ["Business", "Sports", "Health"]),
        ("Sure! Here are some:\n- \"Coral\"\n* **Fish**\n• Crabs", ["Coral", "Fish", "Crabs"]),
        ("```yaml\n- one\n- two words\n```", ["one", "two words"]),
        ('["one", "two words", 3]', ["one", "two words"]),
        ('```json\n{"topics": ["one", "two"]}\n```', ["one", "two"]),
        ("1. 역사\n2. 과학", ["역사", "과학"]),
        ("1.\n2. \n3. Coral", ["Coral"]),
        ("Here you are:\n\n```yaml\n- \"one\"\n- 'two words'\n```\n\nLet me know!", ["one", "two words"]),
        ("topics:\n  - one\n  - two words", ["one", "two words"]),
        ("Here is the list:\n  1. one\n     2. two words  \n", ["one", "two words"]),
        ("다음은 목록입니다:\n\n1. “조선의 역사”\n2) '바다 생물'\n\n감사합니다.", ["조선의 역사", "바다 생물"]),
        ("- 왜 인기가 있나요?\n- 어떻게 내리나요?", ["왜 인기가 있나요?", "어떻게 내리나요?"]),
        ('{"topics": "one"}', []),
        ('{"topics": []}', []),
        ("- ", []),
        ("N/A", []),
        ("```yaml\n```", []),
        ("Science is a vast field with numerous subtopics.", []),
        ("Science, Earth, Universe, Stars", []),
        ("[not: closed", []),
        ("", []),
    ],
)  # fmt: skip
def test_parse_list(text: str, items: list[str]) -> None:
    assert parse_list(text) == items


def test_an_item_that_was_cut_off_is_left_out() -> None:
    assert parse_list("1. What is a reef?\n2. How do re", finished=False) == ["What is a reef?"]
    assert parse_list("1. What is a reef?\n2. How?\nThat is my li", finished=False) == ["What is a reef?", "How?"]
    assert parse_list("1. What is", finished=False) == []


def test_literal_means_word_for_word() -> None:
    assert is_literal("coral reefs", "1. coral\nreefs are old")
    assert not is_literal("Coral reefs", "1. coral reefs")
    assert not is_literal("coral reef biology", "1. coral reefs")
    assert is_literal("조선의 역사", "1. 조선의   역사") and not is_literal("조선 역사", "1. 조선의 역사")
