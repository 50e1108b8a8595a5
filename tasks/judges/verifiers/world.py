"""Questions of the procedural world: the answer is one string of words. Payload: {"answer": "sun cat red"}."""

from typing import Any

from tasks.judges.verifiers import register


@register("world")
def is_answer(payload: Any, answer: str) -> bool:
    return answer.split() == payload["answer"].split()
