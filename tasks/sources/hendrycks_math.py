"""MATH (Hendrycks et al., MIT): competition problems; the answer is in the solution's last \\boxed{}.

    {"problem": "…", "level": "Level 3", "type": "Algebra", "solution": "… so $x = \\boxed{\\frac{3}{4}}$."}

One JSON file a problem (train/algebra/1.json), JSONL or Parquet. As prompts they carry a verifier of the answer, as
dialogues the solution.
"""

from collections.abc import Iterator
from typing import Any

from tasks.judges.ground_truth import verifier
from tasks.judges.verifiers.math import boxed, plain_number
from tasks.sources.base import Record, register
from tasks.sources.rows import assistant, dialogue_row, prompt_row, user


@register("hendrycks_math", use="prompts", also=("dialogues",), licence="MIT", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    problem, solution = record.text("problem"), record.text("solution")
    details = {"level": record.text("level"), "type": record.text("type", "subject")}
    value = boxed(solution)
    if value is None or not value.strip():
        record.refuse("solution", solution[-60:], "an answer in \\boxed{}")
    if record.use == "dialogues":
        yield dialogue_row(record, [user(problem), assistant(solution)])
        return
    number = plain_number(value)
    whole = number is not None and number.denominator == 1
    check = verifier("number", {"value": str(number)}) if whole else verifier("math", {"value": value})
    answer_format = "paragraph" if number is None else "number"
    yield prompt_row(
        record, [user(problem)], verifier=check, task="maths", answer_format=answer_format, details=details
    )
