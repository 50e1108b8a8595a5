"""Verifiable instructions. Payload: {"checks": [{"kind", "params"}, …], "plain": the request without them, …}."""

from typing import Any

from tasks.judges.verifiers import register
from tasks.prompts import instructions


@register("instruction", instructions.VERSION)
def follows(payload: Any, answer: str) -> bool:
    return instructions.verify(payload["checks"], answer)
