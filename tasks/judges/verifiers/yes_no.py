"""Yes or no. Payload: {"answer": "yes"}. What follows the last "answer is" decides, else the answer's first word."""

import re
from typing import Any

from tasks.judges.verifiers import register

_ANSWER = re.compile(r"(?i:####|\\boxed\{|\banswer(?:\s+is|\s*:))")
_SAID = re.compile(r"\W*(?:\\?text\{)?(?P<word>yes|no)\b", re.IGNORECASE)


@register("yes_no")
def says(payload: Any, answer: str) -> bool:
    stated = [answer[found.end() :] for found in _ANSWER.finditer(answer)]
    said = [found for place in [*reversed(stated), answer] if (found := _SAID.match(place))]
    return bool(said) and said[0]["word"].lower() == payload["answer"]
