"""GSM8K (MIT): grade-school problems with worked answers; the final number stands after "####".

    {"question": "…", "answer": "She has 3+4=<<3+4=7>>7 apples.\\n#### 7"}

As prompts they carry a verifier of that number, as dialogues the worked answer without calculator marks.
"""

import re
from collections.abc import Iterator
from typing import Any

from tasks.judges.ground_truth import verifier
from tasks.sources.base import Record, register
from tasks.sources.rows import assistant, dialogue_row, prompt_row, user

_FINAL = re.compile(r"\n####\s*(-?[\d,]*\.?\d+)\s*$")
_MARK = re.compile(r"<<[^<>]*>>")


@register("gsm8k", use="prompts", also=("dialogues",), licence="MIT", synthetic=False)
def read(record: Record) -> Iterator[dict[str, Any]]:
    question, answer = record.text("question"), record.text("answer")
    final = _FINAL.search("\n" + answer)
    if not final:
        record.refuse("answer", answer[-40:], 'a last line of "####" and the final number')
    value = final[1].replace(",", "")
    if record.use == "dialogues":
        worked = _MARK.sub("", _FINAL.sub("", "\n" + answer)).strip()
        yield dialogue_row(record, [user(question), assistant(f"{worked}\nThe answer is {value}.".strip())])
        return
    yield prompt_row(
        record, [user(question)], verifier=verifier("number", {"value": value}), task="maths", answer_format="number"
    )
