"""Readers of sets with problems and solutions: PRM800K, Open-Platypus, SciBench, ARB, OpenBookQA."""

import json
from fractions import Fraction
from typing import Any

import pytest

from tasks.judges.ground_truth import verify
from tasks.sources import arb, open_platypus, openbookqa, prm800k, scibench
from tasks.sources.base import READERS, BadRow, Place, Record
from tasks.sources.files import read_file
from tasks.sources.numbers import as_number
from tasks.sources.places import source_files


def rows_of(reader, *values, use: Any = "", file="train.json"):
    return [row for n, value in enumerate(values, 1) for row in reader.read(Record(value, Place(file, n), use, file))]


def refused(reader, value, field, use="", file="train.json"):
    """The record is a bad row that names file, row and field."""
    with pytest.raises(BadRow) as bad:
        rows_of(reader, value, use=use, file=file)
    assert str(bad.value).startswith(f"{file}, row 1") and field in bad.value.field, bad.value


def texts(row):
    return [(message["role"], message["content"]) for message in row["messages"]]


def step(text, *others, own=None, chosen: int | None = 0):
    offered = [{"text": each, "rating": 1 - n, "flagged": None} for n, each in enumerate((text, *others))]
    return {"completions": offered, "human_completion": own, "chosen_completion": chosen}


def solution(**changes):
    """A line of PRM800K's files."""
    question = {
        "problem": "How much is $6 \\cdot 7$?", "ground_truth_solution": "It is $\\boxed{42}$.",
        "ground_truth_answer": "42", "pre_generated_steps": None, "pre_generated_answer": None,
        "pre_generated_verifier_score": None,
    }  # fmt: skip
    steps = [step("I write 6 as 3 + 3.", "I guess."), step("3 times 7 is 21.\n\n# Answer\n\n42")]
    label = {"steps": steps, "total_time": 9000, "finish_reason": "solution"}
    line = {
        "labeler": "a", "timestamp": "2023-01-01T00:00:00", "generation": None, "is_quality_control_question": False,
        "is_initial_screening_question": False, "question": question, "label": label,
    }  # fmt: skip
    for path, value in changes.items():
        place = line
        *outer, name = path.split("__")
        for each in outer:
            place = place[each]
        place[name] = value
    return line


def test_prm800k_joins_the_chosen_steps():
    own = step("Wrong.", own={"text": "Twice 21 is 42.", "rating": None}, chosen=None)
    line = solution(label__steps=[step("No.", "6 is 3 + 3.", chosen=1), own, step("# Answer\n\n42")])
    (row,) = rows_of(prm800k, line)
    assert texts(row) == [
        ("user", "How much is $6 \\cdot 7$?"), ("assistant", "6 is 3 + 3.\nTwice 21 is 42.\n# Answer\n\n42"),
    ]  # fmt: skip
    assert row["teaches"] == "all"


@pytest.mark.parametrize(
    "changes",
    [
        {"is_quality_control_question": True},
        {"is_initial_screening_question": True},
        {"label__finish_reason": "found_error"},
        {"label__finish_reason": "give_up"},
        {"question__ground_truth_answer": "43"},
        {"label__steps": [step("I stop here.")]},
    ],
)
def test_prm800k_teaches_only_what_is_finished_and_right(changes):
    assert rows_of(prm800k, solution(**changes)) == []


def test_prm800k_compares_answers_without_their_spelling():
    line = solution(question__ground_truth_answer="40,\\!000", label__steps=[step("# Answer\n\n40,000")])
    assert len(rows_of(prm800k, line)) == 1
    line = solution(question__ground_truth_answer="\\frac{3}{4}", label__steps=[step("# Answer\n\n$\\dfrac34$.")])
    assert len(rows_of(prm800k, line)) == 1


def test_prm800k_as_prompts_has_verifiers():
    half = solution(question__ground_truth_answer="\\frac{1}{2}", label__finish_reason="found_error")
    whole, part = rows_of(prm800k, solution(), half, use="prompts")
    assert verify(whole["verifier"], "The answer is 42.") and not verify(whole["verifier"], "The answer is 41.")
    assert verify(part["verifier"], "So it is $\\boxed{\\frac12}$.") and not verify(part["verifier"], "\\boxed{2}")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"question": "How much is 6 times 7?"}, "question"),
        ({"question": None}, "question.problem"),
        ({"question__problem": ""}, "question.problem"),
        ({"question__ground_truth_answer": 42}, "question.ground_truth_answer"),
        ({"is_quality_control_question": None}, "is_quality_control_question"),
        ({"label__finish_reason": 3}, "label.finish_reason"),
        ({"label__steps": []}, "label.steps"),
        ({"label__steps": [step("6", chosen=4)]}, "label.steps, step 1, chosen_completion"),
        ({"label__steps": [step("6", chosen=None)]}, "label.steps, step 1"),
        ({"label__steps": [step("6"), "7"]}, "label.steps, step 2"),
    ],
)
def test_prm800k_refuses(changes, field):
    refused(prm800k, solution(**changes), field, file="phase2_train.jsonl")


def platypus(**changes):
    return {
        "input": "", "instruction": "Is 7 prime?", "output": "Yes, only 1 and 7 divide it.", "data_source": "theoremqa",
    } | changes  # fmt: skip


def test_open_platypus_rows_carry_their_own_source():
    plain, lettered, unknown, without = rows_of(
        open_platypus, platypus(), platypus(input="Choose A or B.", data_source="reclor"), platypus(data_source="new"),
        {name: platypus()[name] for name in ("input", "instruction", "output")},
    )  # fmt: skip
    assert texts(plain) == [("user", "Is 7 prime?"), ("assistant", "Yes, only 1 and 7 divide it.")]
    assert (plain["source"], plain["licence"], plain["synthetic"]) == ("open_platypus/theoremqa", "MIT", False)
    assert lettered["messages"][0]["content"] == "Is 7 prime?\n\nChoose A or B."
    assert lettered["licence"] == "LicenseRef-non-commercial"
    assert (unknown["licence"], unknown["synthetic"]) == ("", True) and "licence" not in without


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"output": " "}, "output"), ({"output": None}, "output"), ({"instruction": 7}, "instruction"),
     ({"input": ["A"]}, "input"), ({"data_source": 1}, "data_source")],
)  # fmt: skip
def test_open_platypus_refuses(changes, field):
    refused(open_platypus, platypus(**changes), field)


def textbook(**changes):
    return {
        "problem_text": "A car covers $12 \\mathrm{~km}$ in a quarter of an hour. How fast is it?",
        "unit": " $10^4$ m/h",
        "answer_latex": " 4.8", "answer_number": "4.8", "source": "fund", "problemid": " 2.1", "comment": " ",
    } | changes  # fmt: skip


def test_scibench_takes_a_number_within_five_per_cent_in_either_power_of_ten(tmp_path):
    path = tmp_path / "fund.json"
    path.write_text(json.dumps([textbook(), textbook(answer_number="−2", unit=" ")]))
    items = [*read_file(source_files(str(path))[0], "prompts")]
    speed, plain = [row for item in items if isinstance(item, Record) for row in scibench.read(item)]
    assert speed["messages"][0]["content"].endswith("How fast is it?\n\nGive the answer as a number in $10^4$ m/h.")
    for answer, right in (("4.7", True), ("4.8 × 10^4 m/h", True), ("48000", True), ("480", False), ("5.1", False)):
        assert verify(speed["verifier"], f"The answer is {answer}") is right, answer
    assert plain["messages"][0]["content"].endswith("as a number.") and verify(plain["verifier"], "-2") is True


def test_scibench_solutions_are_dialogues():
    rows = rows_of(scibench, textbook(), textbook(solution=" "), textbook(solution="\nDivide.\n"), use="dialogues")
    assert [row["messages"][1]["content"] for row in rows] == ["Divide.\n\nThe answer is 4.8 $10^4$ m/h."]


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"answer_number": "fast"}, "answer_number"), ({"answer_number": None}, "answer_number"),
     ({"answer_number": True}, "answer_number"), ({"problem_text": ""}, "problem_text"), ({"unit": None}, "unit")],
)  # fmt: skip
def test_scibench_refuses(changes, field):
    refused(scibench, textbook(**changes), field)


LAW = {
    "Problem Statement": "A lends B a book. Who owns it?", "Problem Number": "1", "Topic": "Property", "Source": "",
    "Answer Candidates": ["A. The lender", "B. The borrower", "C. Both"], "Output Format Instructions": "",
    "Solution": "Lending passes possession only.", "Final Answer": "A", "Images": [], "Problem Type": "Multiple choice",
}  # fmt: skip
MATHS = {
    "Problem_Statement": "Find the area of a square of side 3.", "Topic": "Geometry", "Images": [], "rubric": "",
    "Output Format Instructions": "Answer with a number.", "Solution": "Side by side.", "Final Answer": "$9$",
    "Problem Type": "Numerical",
}  # fmt: skip


def test_arb_takes_keys_with_spaces_and_underscores():
    underscored = {name.replace(" ", "_"): value for name, value in LAW.items()}
    for law in rows_of(arb, LAW, underscored | {"Final_Answer": "The lender"}):
        assert "A. The lender\nB. The borrower\nC. Both" in law["messages"][0]["content"]
        assert verify(law["verifier"], "(A) The lender") and not verify(law["verifier"], "The answer is B.")
    symbolic = MATHS | {"Final Answer": "$x^2$", "Problem Type": "Symbolic"}
    proof = {name: value for name, value in MATHS.items() if name != "Final Answer"} | {"Problem Type": "Proof-like"}
    number, *unverified = rows_of(arb, MATHS, symbolic, proof)
    assert number["messages"][0]["content"].endswith("of side 3.\n\nAnswer with a number.")
    assert verify(number["verifier"], "It is 9.05") and not verify(number["verifier"], "It is 8")
    assert [row["verifier"] for row in unverified] == [None, None]
    (zero,) = rows_of(arb, MATHS | {"Final Answer": "0"})
    assert verify(zero["verifier"], "0") is True


def test_arb_tells_proofs_by_the_files_own_name():
    (number,) = rows_of(arb, MATHS, file="proofpoint/math.json")
    (proof,) = rows_of(arb, MATHS, file="arb/math_proofs.json")
    assert number["verifier"] is not None and proof["verifier"] is None


@pytest.mark.parametrize("text", ["1e10000000", "1E+1_0000000", "-1e-99999", "7" * 1000, "١e١٠٠٠٠٠٠٠"])
def test_numbers_that_take_long_to_expand_are_none(text):
    assert as_number(text) is None and as_number("1.5e300") == Fraction("1.5e300")


def test_arb_leaves_out_images_and_makes_dialogues_of_solutions():
    assert rows_of(arb, MATHS | {"Images": ["square.png"]}) == []
    law, maths = rows_of(arb, LAW, LAW | {"Solution": ""}, MATHS, use="dialogues")
    assert law["messages"][1]["content"] == "Lending passes possession only.\n\nThe answer is A."
    assert maths["messages"][1]["content"] == "Side by side.\n\nThe answer is $9$."


@pytest.mark.parametrize(
    ("value", "field"),
    [(LAW | {"Final Answer": "D"}, "Final Answer"), (LAW | {"Answer Candidates": ["A. The lender"]}, "Answer Candid"),
     (LAW | {"Answer Candidates": ["A. The lender", 3]}, "Answer Candidates, option 2"),
     (LAW | {"Answer Candidates": "A. The lender"}, "Answer Candidates"),
     (MATHS | {"Final Answer": ""}, "Final Answer"),
     (MATHS | {"Problem_Statement": None}, "Problem Statement or Problem_Statement"), (["A"], "")],
)  # fmt: skip
def test_arb_refuses(value, field):
    refused(arb, value, field)


HUB = {
    "id": "1-1", "question_stem": "Which of these floats?", "answerKey": "C",
    "choices": {"text": ["a coin", "a nail", "a cork", "a key"], "label": ["A", "B", "C", "D"]},
}  # fmt: skip
RAW = {
    "id": "1-1", "fact1": "cork is lighter than water", "humanScore": "1.00", "clarity": "2.00", "answerKey": "C",
    "turkIdAnonymized": "a1", "question": {
        "stem": "Which of these floats?",
        "choices": [{"text": text, "label": label} for text, label in zip(HUB["choices"]["text"], "ABCD", strict=True)],
    },
}  # fmt: skip


def test_openbookqa_reads_both_formats_alike():
    hub, raw = rows_of(openbookqa, HUB, RAW)
    assert hub == raw
    assert texts(hub)[0][1].startswith("Which of these floats?\n\nA. a coin\nB. a nail\nC. a cork\nD. a key\n\n")
    assert verify(hub["verifier"], "C") and verify(hub["verifier"], "A cork.") and not verify(hub["verifier"], "A")
    (dialogue,) = rows_of(openbookqa, RAW, use="dialogues")
    assert texts(dialogue)[1] == ("assistant", "C. a cork")


@pytest.mark.parametrize(
    ("value", "field"),
    [(HUB | {"answerKey": "E"}, "answerKey"), (HUB | {"answerKey": None}, "answerKey"),
     (HUB | {"question_stem": ""}, "question_stem"), (HUB | {"choices": None}, "choices"),
     (HUB | {"choices": {"text": ["a coin", ""], "label": ["A", "B"]}}, "choices, option 2"),
     (HUB | {"choices": {"text": ["a coin", "a nail"], "label": ["B", "A"]}}, "choices, labels"),
     (RAW | {"question": {"stem": "Which?", "choices": ["a coin"]}}, "choices"), (RAW | {"question": "?"}, "question")],
)  # fmt: skip
def test_openbookqa_refuses(value, field):
    refused(openbookqa, value, field)


def test_what_the_registers_say():
    said = {name: READERS[name] for name in ("prm800k", "open_platypus", "scibench", "arb", "openbookqa")}
    assert {name: (reader.licence, reader.synthetic, reader.uses) for name, reader in said.items()} == {
        "prm800k": ("MIT", True, ("dialogues", "prompts")),
        "open_platypus": ("", True, ("dialogues",)),
        "scibench": ("MIT", False, ("prompts", "dialogues")),
        "arb": ("", False, ("prompts", "dialogues")),
        "openbookqa": ("", False, ("prompts", "dialogues")),
    }
