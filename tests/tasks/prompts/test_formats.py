"""The plan over task × answer format, its wordings, and the report of what came of it."""

from collections import Counter
from random import Random

import pytest

from tasks.configs.prompts import PromptsConfig
from tasks.coverage import coverage_of
from tasks.prompts.family import FORMATS as KNOWN
from tasks.prompts.formats import FORMATS, TASKS, as_planned, begins, plan, shares, suits, with_format
from tasks.prompts.lists import parse_list

WEIGHTS = PromptsConfig().answer_formats


@pytest.mark.parametrize("family", TASKS)
@pytest.mark.parametrize("count", [1, 4, 7, 100])
def test_every_cell_has_its_share_rounded(family: str, count: int) -> None:
    expected = shares(family, WEIGHTS)
    assert sum(expected.values()) == pytest.approx(1)
    for seed in range(20):
        planned = Counter(plan(family, count, WEIGHTS, Random(seed)))
        assert planned.total() == count
        for cell, share in expected.items():
            assert abs(planned[cell] - share * count) < 1


def test_a_small_plan_is_varied_and_rare_formats_get_their_chance() -> None:
    plans = [plan("open_qa", 4, WEIGHTS, Random(seed)) for seed in range(400)]
    assert all(len({*planned}) == 3 for planned in plans)  # two paragraphs, two others
    tables = sum(planned.count(("question", "table")) for planned in plans)
    assert tables == pytest.approx(400 * 4 * 0.05, rel=0.3)
    assert plan("open_qa", 4, WEIGHTS, Random(1)) == plan("open_qa", 4, WEIGHTS, Random(1))


def test_a_task_without_any_of_the_weighted_formats_has_its_first() -> None:
    found = shares("closed_qa", {"steps": 2.0})
    assert found == {
        ("information", "paragraph"): 0.25, ("rework", "paragraph"): 0.25, ("similar", "text"): 0.25,
        ("other", "paragraph"): 0.25,
    }  # fmt: skip
    assert shares("maths", WEIGHTS) == {}


def test_what_one_kind_lacks_others_fill_up() -> None:
    found = [("a", 1), ("a", 2), ("b", 3), ("a", 4)]
    assert as_planned(found, ["a", "b", "b"]) == [1, 3, 2]
    assert as_planned(found, ["b"]) == [3]


@pytest.mark.parametrize(
    ("text", "name", "fits"),
    [
        ("Is coffee healthy?", "yes_no", True),
        ("I drink a lot. Is coffee healthy?", "yes_no", True),
        ("Why is coffee healthy?", "yes_no", False),
        ("Is that so? Why is coffee healthy?", "yes_no", False),
        ("Issues with coffee?", "yes_no", False),
        ("How can I brew coffee?", "steps", True),
        ("How old is coffee?", "steps", False),
        ("Coffee.", "list", False),
        ("Anything goes", "paragraph", True),
    ],
)
def test_which_questions_a_format_can_answer(text: str, name: str, fits: bool) -> None:
    assert suits(text, name) is fits


def test_wordings_and_examples_belong_to_known_formats() -> None:
    assert set(FORMATS) <= set(KNOWN)
    assert {name for allowed in TASKS.values() for names in allowed.values() for name in names} <= set(FORMATS)
    for name, data in FORMATS.items():
        if name != "text":
            assert len([wording for wording in data["wordings"] if wording]) >= 3
        for _, said in data.get("shots", []):
            questions = parse_list(said)
            assert len(questions) == 3 and all(suits(question, name) for question in questions)
        assert with_format("What?", name, Random(0)).startswith("What?")
    assert begins("paragraph") == ""


def test_coverage_tells_what_was_planned_beside_what_came() -> None:
    rows = [
        {"family": "open_qa", "task": "question", "topic": topic, "answer_format": name}
        for topic, name in (("coffee", "json"), ("coffee", "json"), ("sleep", "json"), ("sleep", "list"))
    ]
    rows.append({"family": "maths", "task": "problem", "topic": "", "answer_format": "number"})
    found = coverage_of(rows, {"open_qa": 10, "maths": 2}, {"json": 3, "paragraph": 1})
    assert found["families"] == {"maths": {"planned": 2, "got": 1}, "open_qa": {"planned": 10, "got": 4}}
    assert found["formats"] == {"json": 3, "list": 1, "number": 1}
    assert (found["topics"], found["cells"]) == (2, 4)
    assert [(cell["answer_format"], cell["planned"], cell["got"], cell["topics"]) for cell in found["plan"]] == [
        ("number", None, 1, 0), ("json", 7.5, 3, 2), ("list", None, 1, 1), ("paragraph", 2.5, 0, 0)
    ]  # fmt: skip
