"""ARB, the Advanced Reasoning Benchmark: law, mathematics and physics at graduate level (Sawada et al., 2023).

    law:   {"Problem Statement": "…", "Answer Candidates": ["…", …], "Final Answer": "B", "Solution": "…", …}
    other: {"Problem_Statement": "…", "Output Format Instructions": "…", "Solution": "…", "Final Answer": "$3$",
            "Problem Type": "Numerical", "rubric": "…", …}

Keys have spaces or underscores. Choices and numbers get a verifier (numbers within 1 %), symbolic answers and proofs
none. Problems with images give no row. It is a benchmark: what trains on it cannot be evaluated with it. Sources differ
on its licence (the site's code is MIT, Open-Platypus says CC-BY-4.0), so none is stated here: set `licence`.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from tasks.judges.ground_truth import verifier
from tasks.sources.base import Record, register
from tasks.sources.lettered import options_of, question_with, right_option
from tasks.sources.numbers import as_number
from tasks.sources.rows import assistant, dialogue_row, prompt_row, user

Verifier = dict[str, Any] | None
STATEMENT = ("Problem Statement", "Problem_Statement")
TOLERANCE = "0.01"
_LABEL = re.compile(r"^\s*\(?([A-J])(?:[).:]\s*|\s*$)")


@register("arb", use="prompts", also=("dialogues",), licence="", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    if record.get("Images"):
        return
    chosen = record.get("Answer Candidates", "Answer_Candidates")
    asked, check, answer = _multiple_choice(record) if chosen else _open(record)
    if record.use != "dialogues":
        yield prompt_row(record, [user(asked)], verifier=check, task="reasoning")
    elif record.get("Solution"):
        ending = f"\n\nThe answer is {answer}." if answer else ""
        yield dialogue_row(record, [user(asked), assistant(record.text("Solution") + ending)])


def _multiple_choice(record: Record) -> tuple[str, Verifier, str]:
    """What is asked, how it is checked, and the answer in short."""
    texts = record.items("Answer Candidates", "Answer_Candidates")
    unlabelled = [_LABEL.sub("", text) if isinstance(text, str) else text for text in texts]
    options = options_of(record, "Answer Candidates", unlabelled)
    letter = _letter(record, options)
    return question_with(options, record.text(*STATEMENT)), right_option(letter, options), letter


def _open(record: Record) -> tuple[str, Verifier, str]:
    """The same for numbers, symbolic answers and proofs, which have no answer in short."""
    form = record.get("Output Format Instructions", "Output_Format_Instructions")
    asked = "\n\n".join([record.text(*STATEMENT), *([form.strip()] if isinstance(form, str) and form.strip() else [])])
    if _is_proof(record):
        return asked, None, ""
    answer = record.text("Final Answer", "Final_Answer")
    value = as_number(answer)
    if value is None:
        return asked, None, answer
    return asked, verifier("close_number", {"any": [str(value)], "tolerance": TOLERANCE}), answer


def _is_proof(record: Record) -> bool:
    kind = str(record.get("Problem Type", "Problem_Type") or "")
    return "proof" in kind.lower() or "proof" in PurePosixPath(record.name).name.lower()


def _letter(record: Record, options: dict[str, str]) -> str:
    """The right option's letter, where the final answer is that or the option's text."""
    final = record.text("Final Answer", "Final_Answer")
    if (label := _LABEL.match(final)) and label[1] in options:
        return label[1]
    for letter, text in options.items():
        if text == final:
            return letter
    record.refuse("Final Answer", final, f"one of the letters {', '.join(options)}, or one of the candidates")
