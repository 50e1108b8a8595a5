"""Multiple choice. Payload: {"letter": "B", "text": "the option's own words"}.

The letter is looked for where an answer states it: after its last "answer is" or box, as its opening, on its last line,
after "option". A letter that is one of several ("A or B") states nothing; nor does "A" as an article.
"""

import re
from typing import Any

from tasks.judges.verifiers import register
from tasks.judges.verifiers.text import normalised

_OPEN = r"(?:\\(?:text|textbf|mathrm|boxed)\{|[\s*_\"'“`(\[{$:=])*"
_LETTER = (
    r"(?P<letter>[A-J])(?![\w’'-])"
    r"(?!\s*[)\]*.]*\s*(?:and|or|nor|/|,|&)\s*\(?[A-J]\b)"
    r"(?!(?<=[AI])[ ]+(?!because|since|as\b|is\b)[a-z])"
)
_ANSWER = re.compile(r"(?i:####|\\boxed\{|\b(?:answer|choice)\b(?:\s+(?:is|would be|should be|must be))?)")
_OPTION = re.compile(rf"(?i:\boption\b){_OPEN}{_LETTER}")
_FIRST = re.compile(_OPEN + r"(?i:(?:the\s+)?(?:option|letter)\b)?" + _OPEN + _LETTER)
_ALONE = re.compile(_OPEN + _LETTER + r"[\s*_\"'”`)\]}$.:]*")


@register("choice")
def chooses(payload: Any, answer: str) -> bool:
    """Whether the stated letter is the right one or, where no letter is stated, the stated text is the option's."""
    after = [answer[found.end() :] for found in _ANSWER.finditer(answer)]
    for place in [*reversed(after), answer.strip()]:
        if _is_text(payload["text"], place):
            return True
        if found := _FIRST.match(place):
            return found["letter"] == payload["letter"]
    lines = answer.strip().splitlines()
    if lines and (found := _ALONE.fullmatch(lines[-1])):
        return found["letter"] == payload["letter"]
    named = list(_OPTION.finditer(answer))
    return bool(named) and named[-1]["letter"] == payload["letter"]


def _is_text(option: str, place: str) -> bool:
    """Whether the first line of `place` is the option's words and nothing else."""
    lines = place.strip().splitlines()
    return bool(normalised(option)) and bool(lines) and normalised(lines[0]) == normalised(option)
