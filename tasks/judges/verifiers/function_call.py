"""Function calls. Payload: {"name": the function's, "arguments": {…}}, or {"name": null} where none fits.

    <functioncall> {"name": "book_table", "arguments": {"guests": 4}}

The payload's "start", if any, is how a call begins, for an aid.
"""

import json
import re
from contextlib import suppress
from typing import Any

from tasks.judges.verifiers import register
from tasks.judges.verifiers.text import normalised
from tasks.prompts.sentences import words

MARKER = "<functioncall>"
_ENDS = re.compile(r"</functioncall>|<\|\w+\|>")
_QUOTED_ARGUMENTS = re.compile(r"""("arguments"\s*:\s*)'(\{.*?\})'(?=\s*\})""", re.DOTALL)
"""As Glaive writes them: JSON within single quotes."""


@register("function_call")
def calls_as_wanted(payload: Any, answer: str) -> bool:
    """Exactly one call, of this function with these arguments, and no word after it; or no call and some words."""
    if payload["name"] is None:
        return MARKER not in answer and '"arguments"' not in answer and bool(words(answer))
    call = parse_call(answer)
    return call is not None and call[0] == payload["name"] and equal(call[1], payload["arguments"])


def parse_call(answer: str) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of the answer's only call; None where there is none, several, a broken one, or more text."""
    parts = answer.split(MARKER)
    if len(parts) != 2:
        return None
    text = _QUOTED_ARGUMENTS.sub(lambda found: found[1] + found[2], parts[1]).strip().removeprefix("```json").lstrip()
    with suppress(json.JSONDecodeError):
        call, end = json.JSONDecoder().raw_decode(text)
        if words(_ENDS.sub("", text[end:])):
            return None
        arguments = call.get("arguments", {}) if isinstance(call, dict) else None
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        if isinstance(arguments, dict) and isinstance(call.get("name"), str):
            return call["name"], arguments
    return None


def equal(found: Any, wanted: Any) -> bool:
    """Whether two JSON values say the same: 4 and "4.0" do, true and "true", "Anna" and "anna"; true and 1 don't."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return found.keys() == wanted.keys() and all(equal(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(equal, found, wanted))
    return _plain(found) == _plain(wanted)


def _plain(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, dict | list):
        return json.dumps(value)
    with suppress(ValueError):
        return float(value)
    return normalised(value) or value.strip().casefold()
