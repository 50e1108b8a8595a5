"""One name among several, such as a table's rows. Payload: {"any": [aliases of the right one], "others": [wrong ones]}.

An answer that names a wrong one too, to compare or because it copies the table, cannot be judged.
"""

from typing import Any

from tasks.judges.verifiers import register
from tasks.judges.verifiers.text import contains


@register("named_only")
def names_the_right_one(payload: Any, answer: str) -> bool | None:
    if not contains(payload, answer):
        return False
    return None if contains({"any": payload["others"]}, answer) else True
