"""What is served: one model under one name, and the bounds of what one request may ask."""

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import uuid4

from deployments.server.answers import Answers
from deployments.server.bodies import Body
from deployments.server.errors import ApiError, refused
from deployments.server.spelling import Spelling
from models.engine import SamplingParams
from models.engine.live import LiveEngine


@dataclass
class Service:
    """Shared by all requests."""

    live: LiveEngine
    name: str
    max_choices: int = 128
    """Of one request: prompts times samples."""
    max_body_bytes: int = 16 * 2**20
    created: int = field(default_factory=lambda: int(time.time()))
    """Seconds since 1970, when serving began."""

    @cached_property
    def spelling(self) -> Spelling:
        return Spelling(self.live.engine.tokenizer)

    def model_card(self) -> dict[str, Any]:
        return {
            "id": self.name, "object": "model", "created": self.created, "owned_by": "ratchet",
            "max_model_len": self.live.engine.config.max_positions,
        }  # fmt: skip

    def check_model(self, name: str) -> None:
        """Raise ApiError for a model that is not served."""
        if name != self.name:
            raise ApiError(404, f"the model {name[:200]!r} does not exist", "model", "model_not_found")

    def check_choices(self, body: Body, prompts: int) -> None:
        """Raise ApiError for more choices than one request may ask for."""
        most = min(self.max_choices, self.live.max_open)
        if not 1 <= body.samples * prompts <= most:
            raise refused(f"{prompts} prompts with n = {body.samples}; expected 1 to {most} choices in all", "n")

    def longest_answer(self, prompt: list[int]) -> int:
        """Tokens of an answer that nobody bounded: what is left of the context, less where memory does not hold it."""
        tokens = max(1, self.live.engine.config.max_positions - len(prompt))
        while tokens > 1 and self.live.engine.refusal(prompt, SamplingParams(max_tokens=tokens)):
            tokens //= 2
        return tokens


class Reply:
    """What the two kinds of answers have in common: their head, and how many tokens they took."""

    prefix = ""
    """Of the id."""
    kind = ""
    """The `object`."""
    chunk_kind = ""

    def __init__(self, service: Service, answers: Answers) -> None:
        self.service, self.answers = service, answers
        self.id = f"{self.prefix}-{uuid4().hex}"
        self.created = int(time.time())
        self.prompt_tokens = self.completion_tokens = 0

    def document(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._head(self.kind) | {"choices": choices, "usage": self.usage()}

    def chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._head(self.chunk_kind) | {"choices": choices}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.service.name}

    def usage(self) -> dict[str, int]:
        """A prompt counts once, however many samples it has; stop tokens and stop texts do not count."""
        return {
            "prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }  # fmt: skip
