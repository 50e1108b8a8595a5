"""Readers of maths with answers to check: GSM8K and MATH."""

import json

import pytest

from tasks.judges.ground_truth import verify
from tasks.sources.base import Record
from tasks.sources.files import read_file
from tasks.sources.places import files_to_read

APPLES = {"question": "Ann has 1,000 pears and gets 4*5 more. How many?",
          "answer": "She gets 4*5=<<4*5=20>>20.\nSo 1,000+20=<<1000+20=1020>>1,020.\n#### 1,020"}  # fmt: skip


class TestGSM8K:
    def test_a_prompt_carries_its_number(self, rows_of):
        (row,) = rows_of("gsm8k", APPLES)
        assert row["messages"] == [{"role": "user", "content": APPLES["question"]}] and row["task"] == "maths"
        assert verify(row["verifier"], "It is 1020.") is True and verify(row["verifier"], "It is 20.") is False

    def test_a_dialogue_has_the_work_without_marks(self, rows_of):
        (row,) = rows_of("gsm8k", APPLES, "dialogues")
        assert row["messages"][1]["content"] == "She gets 4*5=20.\nSo 1,000+20=1,020.\nThe answer is 1020."

    @pytest.mark.parametrize("final", ["-5", "0.25", "3"])
    def test_other_numbers(self, rows_of, final):
        (row,) = rows_of("gsm8k", APPLES | {"answer": f"So.\n#### {final}"})
        assert verify(row["verifier"], f"The answer is {final}") is True

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"question": ""}, "question"),
            ({"answer": None}, "answer"),
            ({"answer": "It is 20."}, "answer"),
            ({"answer": "So.\n#### twenty"}, "answer"),
            ({"answer": "#### 20\nmore"}, "answer"),
        ],
    )
    def test_other_records_are_refused(self, refusal_of, changes, field):
        assert f"field '{field}'" in refusal_of("gsm8k", APPLES | changes)


def problem(answer: str, **changes):
    """A record of MATH."""
    return {"problem": "How much is $x$?", "level": "Level 3", "type": "Algebra",
            "solution": f"Not $\\boxed{{9}}$ but $x = \\boxed{{{answer}}}$.", **changes}  # fmt: skip


class TestMath:
    def test_a_whole_number_is_checked_as_one(self, rows_of):
        (row,) = rows_of("hendrycks_math", problem("1{,}234"))
        assert row["verifier"]["kind"] == "number" and verify(row["verifier"], "So it is 1,234.") is True
        assert row["details"] == '{"level":"Level 3","type":"Algebra"}' and row["answer_format"] == "number"

    def test_other_answers_are_compared_as_latex(self, rows_of):
        (row,) = rows_of("hendrycks_math", problem("\\frac{\\sqrt{3}}{2}"))
        assert row["verifier"]["kind"] == "math" and row["answer_format"] == "paragraph"
        assert verify(row["verifier"], "Hence $\\boxed{\\dfrac{\\sqrt3}{2}}$") is True
        assert verify(row["verifier"], "Hence $\\boxed{\\frac{\\sqrt3}{4}}$") is False

    def test_a_fraction_is_a_number_in_latex(self, rows_of):
        (row,) = rows_of("hendrycks_math", problem("-\\frac{3}{4}"))
        assert row["verifier"]["kind"] == "math" and row["answer_format"] == "number"
        assert verify(row["verifier"], "So $\\boxed{-\\frac34}$.") is True
        assert verify(row["verifier"], "So $\\boxed{\\frac34}$.") is False

    def test_a_dialogue_has_the_solution(self, rows_of):
        (row,) = rows_of("hendrycks_math", problem("7"), "dialogues")
        assert row["messages"][1]["content"] == problem("7")["solution"]

    def test_a_folder_of_one_file_a_problem_is_read_without_its_test_split(self, tmp_path):
        for name in ("train/algebra/1.json", "train/algebra/2.json", "test/algebra/1.json"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(json.dumps(problem(name), indent=4))
        read, left_out = files_to_read(str(tmp_path), (".json",))
        values = [item.value for file in read for item in read_file(file, "prompts") if isinstance(item, Record)]
        assert values == [problem("train/algebra/1.json"), problem("train/algebra/2.json")] and len(left_out) == 1

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"problem": None}, "problem"),
            ({"level": ""}, "level"),
            ({"type": 3}, "type or subject"),
            ({"solution": "It is 7."}, "solution"),
            ({"solution": "It is $\\boxed{7"}, "solution"),
            ({"solution": "It is $\\boxed{ }$"}, "solution"),
        ],
    )
    def test_other_records_are_refused(self, refusal_of, changes, field):
        assert f"field '{field}'" in refusal_of("hendrycks_math", problem("7", **changes))
