"""FinQA (MIT): questions on pages of company reports that take arithmetic to answer (Chen et al., 2021).

    [{"id": "…", "pre_text": ["…", …], "post_text": ["…", …], "table": [["", "2021"], ["sales", "12.5"], …],
      "qa": {"question": "…", "answer": "4.2%", "exe_ans": 0.04167, "program": "divide(…)", …}}, …]

Copies on the Hub have the fields of `qa` beside the others. Right is a number within 1 % of the program's result
(`exe_ans`); where a percentage is asked for, as a share or in per cent. The private test set has no answers.
"""

from collections.abc import Iterator
from typing import Any

from tasks.judges.ground_truth import verifier
from tasks.sources.base import Record, register
from tasks.sources.markdown import table
from tasks.sources.nested import flattened
from tasks.sources.numbers import number_of
from tasks.sources.rows import prompt_row, user

TOLERANCE = "0.01"
RESULT = ("qa.exe_ans", "exe_ans", "final_result")
ASK = 'End with "The answer is" and the number, or yes or no.'


@register("finqa", use="prompts", licence="MIT", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    flat = flattened(record, "qa")
    question = flat.text("qa.question", "question")
    grounding = [_text(flat, "pre_text"), table(flat, "table", flat.items("table")), _text(flat, "post_text")]
    asked = "\n\n".join([*filter(None, grounding), f"{question}\n{ASK}"])
    yes_no = flat.get(*RESULT) in ("yes", "no")
    check = verifier("yes_no", {"answer": flat.get(*RESULT)}) if yes_no else _number(flat, question)
    answer_format = "yes_no" if yes_no else "number"
    yield prompt_row(record, [user(asked)], verifier=check, task="closed_qa", answer_format=answer_format)


def _number(record: Record, question: str) -> dict[str, Any]:
    value = number_of(record, *RESULT)
    stated = str(record.get("qa.answer", "answer") or "")
    percentage = "%" in stated + question or "percent" in question.lower()
    values = [value, 100 * value] if percentage else [value]
    return verifier("close_number", {"any": [str(each) for each in values], "tolerance": TOLERANCE})


def _text(record: Record, name: str) -> str:
    """A list of sentences as one paragraph; there may be none."""
    found = record.get(name)
    if not isinstance(found, list | tuple) or not all(isinstance(item, str) for item in found):
        record.refuse(name, found, "a list of texts")
    return " ".join(item.strip() for item in found if item.strip())
