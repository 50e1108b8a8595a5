"""`POST /v1/completions`: texts or token ids that are continued, and scored where `echo` comes with `logprobs`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from deployments.server.answers import Answers, EventStream, unless_gone
from deployments.server.bodies import CompletionBody, read_body
from deployments.server.errors import refused
from deployments.server.service import Reply, Service
from deployments.server.spelling import TextLogprobs
from models.engine import TokenLogprob
from models.engine.live import Increment
from models.tokenizer import Tokenizer

MOST_PROMPTS = 4096
DEFAULT_TOKENS = 16
"""OpenAI's, for an answer that nobody bounded."""


@dataclass(frozen=True)
class Prompt:
    text: str
    token_ids: list[int]


async def completion(service: Service, request: Request) -> Response:
    body = await read_body(request, CompletionBody, service.max_body_bytes)
    service.check_model(body.model)
    with ExitStack() as until_answered:
        answers = until_answered.enter_context(Answers(service.live, "prompt"))
        prompts = await asyncio.to_thread(read_prompts, body, service.live.engine.tokenizer)
        service.check_choices(body, len(prompts))
        reply = CompletionReply(service, answers, body, prompts)
        await unless_gone(request, reply.begin())
        if body.stream:
            until_answered.pop_all()
            return EventStream(reply.chunks(), answers)
        return JSONResponse(await unless_gone(request, reply.whole()))


def read_prompts(body: CompletionBody, tokenizer: Tokenizer) -> list[Prompt]:
    """The prompts, whichever of the four forms they have. Raises ApiError for any other."""
    given = body.prompt
    if isinstance(given, str) or _is_token_list(given):
        given = [given]
    if not isinstance(given, list) or not given or not all(map(_is_prompt, given)):
        raise refused("prompt is no text, list of texts, list of token ids, or list of such lists", "prompt")
    if len(given) > MOST_PROMPTS:
        raise refused(f"{len(given)} prompts; at most {MOST_PROMPTS} may come in one request", "prompt")
    around = body.add_special_tokens is not False
    prompts: list[Prompt] = []
    for one in given:
        if isinstance(one, str):
            prompts.append(Prompt(one, tokenizer.backend.encode(one, add_special_tokens=around).ids))
        else:
            known = [token for token in one if 0 <= token < tokenizer.vocab_size]
            prompts.append(Prompt(tokenizer.decode(known, skip_special_tokens=False), one))
    return prompts


def _is_prompt(given: Any) -> bool:
    return isinstance(given, str) or _is_token_list(given)


def _is_token_list(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(type(token) is int for token in given)


class CompletionReply(Reply):
    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def __init__(self, service: Service, answers: Answers, body: CompletionBody, prompts: list[Prompt]) -> None:
        super().__init__(service, answers)
        self.body, self.prompts = body, prompts
        self.prompt_tokens = sum(len(prompt.token_ids) for prompt in prompts)
        self.choices = len(prompts) * body.samples
        self.scores: dict[int, tuple[TokenLogprob, ...]] = {}
        """Of the prompts' tokens after the first."""
        self.logprobs: dict[int, TextLogprobs] = {}

    @property
    def longest(self) -> int:
        return DEFAULT_TOKENS if self.body.max_tokens is None else self.body.max_tokens

    async def begin(self) -> None:
        """Score the prompts if asked to, then begin to answer. Raises ApiError."""
        if self.longest == 0 and not self.body.echo:
            raise refused("max_tokens is 0; expected at least 1, or echo: true", "max_tokens")
        # Built for its checks, too, where nothing is generated.
        params = self.body.params(self.longest if self.longest != 0 else 1, self.body.logprobs)
        for prompt in self.prompts:
            self.answers.check(prompt.token_ids)
        if self.body.logprobs is not None:
            self.logprobs = {choice: TextLogprobs(self.service.spelling) for choice in range(self.choices)}
            if self.body.echo:
                await self._score(self.body.logprobs)
        if self.longest:
            await asyncio.to_thread(self._ask, params)

    async def _score(self, alternatives: int) -> None:
        long = [number for number, prompt in enumerate(self.prompts) if len(prompt.token_ids) > 1]
        for number in long:
            self.answers.read(number, self.prompts[number].token_ids, alternatives)
        self.scores = await self.answers.scores(len(long))

    def _ask(self, params: Any) -> None:
        for number, prompt in enumerate(self.prompts):
            self.answers.ask(number, prompt.token_ids, params, whole=not self.body.stream)

    async def whole(self) -> dict[str, Any]:
        choices = {choice: self._echo(choice) for choice in range(self.choices)}
        async for number, increment in self._increments():
            choice = number * self.body.samples + increment.sample
            _append(choices[choice], self._choice(choice, increment))
        return self.document([*choices.values()])

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        if self.body.echo:
            for choice in range(self.choices):
                yield self._chunk(self._echo(choice))
        async for number, increment in self._increments():
            yield self._chunk(self._choice(number * self.body.samples + increment.sample, increment))
        if self.body.usage_streamed:
            yield self.chunk([]) | {"usage": self.usage()}

    async def _increments(self) -> AsyncIterator[tuple[int, Increment]]:
        async for number, increment in self.answers.increments(self.choices if self.longest else 0):
            if increment.completion is not None:
                self.completion_tokens += len(increment.completion.token_ids)
            yield number, increment

    def _echo(self, choice: int) -> dict[str, Any]:
        """What stands before the answer: the prompt, or nothing. The whole choice where no answer is wanted."""
        entries: list[TokenLogprob | int] = []
        text = ""
        if self.body.echo:
            number = choice // self.body.samples
            text = self.prompts[number].text
            entries = [self.prompts[number].token_ids[0], *self.scores.get(number, ())]
        return self._part(choice, text, entries, None if self.longest else "length")

    def _choice(self, choice: int, increment: Increment) -> dict[str, Any]:
        entries: list[TokenLogprob | int] = [*increment.logprobs]
        if increment.stop_token is not None:
            entries.append(increment.stop_token)
        reason = None if increment.completion is None else increment.completion.finish_reason
        return self._part(choice, increment.text, entries, reason)

    def _part(self, choice: int, text: str, entries: list[TokenLogprob | int], reason: str | None) -> dict[str, Any]:
        logprobs = self.logprobs[choice].part(entries) if choice in self.logprobs else None
        return {"index": choice, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        return self.chunk([choice]) | ({"usage": None} if self.body.usage_streamed else {})


def _append(choice: dict[str, Any], part: dict[str, Any]) -> None:
    choice["text"] += part["text"]
    choice["finish_reason"] = part["finish_reason"]
    for name, values in (part["logprobs"] or {}).items():
        choice["logprobs"][name] += values
