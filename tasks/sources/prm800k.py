"""PRM800K (MIT): model-written solutions of MATH problems whose every step a person rated (Lightman et al., 2023).

    {"is_quality_control_question": false, "is_initial_screening_question": false,
     "question": {"problem": "…", "ground_truth_answer": "12", …},
     "label": {"finish_reason": "solution", "steps": [
         {"completions": [{"text": "…", "rating": 1}, …], "human_completion": null, "chosen_completion": 0}, …]}}

A dialogue is the problem and its chosen steps. Only solutions that a labeller followed to the end ("solution", not
"found_error", "give_up" or "bad_problem") and whose answer is the ground truth are taught. Quality-control and
screening questions were put to every labeller, so they would count many times: they give no row. As prompts: each
line's problem, with a verifier of the ground truth; lines of one problem give the same prompt.
phase1_test and phase2_test hold MATH test problems.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.judges.ground_truth import verifier
from tasks.judges.verifiers.math import equal, plain_number
from tasks.sources.base import Record, register
from tasks.sources.nested import flattened
from tasks.sources.rows import assistant, dialogue_row, prompt_row, user

ANSWER = "# Answer"
"""Heads the final answer in a solution's last step."""


@register("prm800k", use="dialogues", also=("prompts",), licence="MIT", synthetic=True)
def read(record: Record) -> Iterator[dict[str, Any]]:
    flat = flattened(flattened(record, "question"), "label")
    for name in ("is_quality_control_question", "is_initial_screening_question"):
        if not isinstance(flat.get(name), bool):
            flat.refuse(name, flat.get(name), "true or false")
        if flat.get(name):
            return
    problem, truth = flat.text("question.problem"), flat.text("question.ground_truth_answer")
    if record.use == "prompts":
        yield prompt_row(record, [user(problem)], verifier=_verifier(truth), task="maths")
    elif flat.text("label.finish_reason") == "solution":
        solution = "\n".join(_chosen(flat, number, step) for number, step in enumerate(flat.items("label.steps"), 1))
        if equal(solution.rpartition(ANSWER)[2], truth):
            yield dialogue_row(record, [user(problem), assistant(solution)])


def _verifier(truth: str) -> dict[str, Any]:
    number = plain_number(truth)
    if number is not None and number.denominator == 1:
        return verifier("number", {"value": str(number)})
    return verifier("math", {"value": truth})


def _chosen(record: Record, number: int, step: Any) -> str:
    """A step's chosen text: one of the model's, or the labeller's own."""
    field = f"label.steps, step {number}"
    if not isinstance(step, Mapping):
        record.refuse(field, step, "an object")
    index, offered, own = (step.get(name) for name in ("chosen_completion", "completions", "human_completion"))
    if index is not None and not (isinstance(offered, list) and isinstance(index, int) and 0 <= index < len(offered)):
        record.refuse(f"{field}, chosen_completion", index, "the place of one of its completions")
    chosen = own if index is None or offered is None else offered[index]
    text = chosen.get("text") if isinstance(chosen, Mapping) else chosen
    if not isinstance(text, str) or not text.strip():
        record.refuse(field, text, "the text of a chosen step")
    return text.strip()
