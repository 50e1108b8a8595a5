"""SciBench (MIT): problems of university textbooks, answered by one number in a given unit (Wang et al., 2024).

    [{"problem_text": "…", "answer_latex": " 2.1", "answer_number": "2.1", "unit": " $10^6$ m", "source": "fund",
      "problemid": " 3.01", "comment": " ", "solution": "…"}, …]

Right is a number within 5 %, as in the authors' own evaluation; a unit's power of ten may stand in the number. The
problems with a solution (most are in the files *_sol.json) are dialogues as well.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from tasks.judges.ground_truth import verifier
from tasks.sources.base import Record, register
from tasks.sources.numbers import number_of
from tasks.sources.rows import assistant, dialogue_row, prompt_row, user

TOLERANCE = "0.05"
_POWER = re.compile(r"10\s*\^\s*\{?\s*([-−]?\d{1,3})\s*\}?")


@register("scibench", use="prompts", also=("dialogues",), licence="MIT", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    unit = record.text("unit", empty=True)
    value = number_of(record, "answer_number")
    question = user(f"{record.text('problem_text')}\n\nGive the answer as a number{f' in {unit}' if unit else ''}.")
    if record.use == "dialogues":
        if record.get("solution") and record.text("solution", empty=True):
            answer = f"{record.text('solution')}\n\nThe answer is {record.text('answer_latex')} {unit}".rstrip()
            yield dialogue_row(record, [question, assistant(f"{answer}.")])
        return
    power = _POWER.search(unit)
    values = [value, value * Fraction(10) ** int(power[1].replace("−", "-"))] if power else [value]
    check = verifier("close_number", {"any": [str(each) for each in values], "tolerance": TOLERANCE})
    yield prompt_row(record, [question], verifier=check, task="science", answer_format="number")
