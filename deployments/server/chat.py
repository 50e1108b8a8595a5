"""`POST /v1/chat/completions`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from deployments.server.answers import Answers, EventStream, unless_gone
from deployments.server.bodies import ChatBody, read_body
from deployments.server.errors import refused
from deployments.server.messages import conversation
from deployments.server.service import Reply, Service
from models.engine import TokenLogprob
from models.engine.interface import MOST_LOGPROBS


async def chat_completion(service: Service, request: Request) -> Response:
    body = await read_body(request, ChatBody, service.max_body_bytes)
    service.check_model(body.model)
    service.check_choices(body, prompts=1)
    with ExitStack() as until_answered:
        answers = until_answered.enter_context(Answers(service.live, "messages"))
        reply = ChatReply(service, answers, body)
        await asyncio.to_thread(reply.ask)
        if body.stream:
            until_answered.pop_all()
            return EventStream(reply.chunks(), answers)
        return JSONResponse(await unless_gone(request, reply.whole()))


class ChatReply(Reply):
    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, service: Service, answers: Answers, body: ChatBody) -> None:
        super().__init__(service, answers)
        self.body = body

    def ask(self) -> None:
        """Begin; needs a while for a long conversation. Raises ApiError."""
        try:
            prompt = self.service.live.engine.encode(conversation(self.body))
        except ValueError as error:
            raise refused(str(error), "messages") from error
        self.prompt_tokens = len(prompt)
        longest = self.body.max_completion_tokens
        longest = self.body.max_tokens if longest is None else longest
        longest = self.service.longest_answer(prompt) if longest is None else longest
        params = self.body.params(longest, self._alternatives())
        self.answers.ask(0, prompt, params, whole=not self.body.stream)

    def _alternatives(self) -> int | None:
        top = self.body.top_logprobs or 0
        if not 0 <= top <= MOST_LOGPROBS:
            raise refused(f"top_logprobs is {top}; expected 0 to {MOST_LOGPROBS}", "top_logprobs")
        if top and not self.body.logprobs:
            raise refused("top_logprobs are given with logprobs only; expected logprobs: true", "top_logprobs")
        return top if self.body.logprobs else None

    async def whole(self) -> dict[str, Any]:
        choices: dict[int, dict[str, Any]] = {}
        async for _, increment in self.answers.increments(self.body.samples):
            completion = increment.completion
            assert completion is not None, "increments of whole answers are whole"
            self.completion_tokens += len(completion.token_ids)
            message = {"role": "assistant", "content": completion.text, "refusal": None}
            choices[increment.sample] = {
                "index": increment.sample,
                "message": message,
                "logprobs": self._logprobs(completion.logprobs or ()),
                "finish_reason": completion.finish_reason,
            }
        return self.document([choices[sample] for sample in sorted(choices)])

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        for sample in range(self.body.samples):
            yield self._chunk(sample, {"role": "assistant", "content": ""})
        async for _, increment in self.answers.increments(self.body.samples):
            if increment.text or increment.logprobs:
                yield self._chunk(increment.sample, {"content": increment.text}, increment.logprobs)
            if increment.completion is not None:
                self.completion_tokens += len(increment.completion.token_ids)
                yield self._chunk(increment.sample, {}, finish_reason=increment.completion.finish_reason)
        if self.body.usage_streamed:
            yield self.chunk([]) | {"usage": self.usage()}

    def _chunk(
        self,
        sample: int,
        delta: dict[str, Any],
        logprobs: Sequence[TokenLogprob] = (),
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {
            "index": sample,
            "delta": delta,
            "logprobs": self._logprobs(logprobs) if logprobs else None,
            "finish_reason": finish_reason,
        }
        return self.chunk([choice]) | ({"usage": None} if self.body.usage_streamed else {})

    def _logprobs(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not self.body.logprobs:
            return None
        return {"content": self.service.spelling.chat(logprobs), "refusal": None}
