"""A model behind an OpenAI-compatible endpoint, as a generator.

Rows are asked side by side, up to the configured number at once. One that cannot be answered gets a result with an
error; what no row would get past (a wrong key, an unknown model, a server that is gone) ends the call.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import httpx

from infra.errors import StageFailed
from infra.settings import openai_api_key
from models.engine import Completion, Result, SamplingParams
from models.engine.interface import MOST_LOGPROBS, Progress, Prompt, one_each
from tasks.configs.base import EndpointResources
from tasks.configs.endpoint_model import EndpointModelConfig
from tasks.engines.abilities import NoLogprobs, Usage
from tasks.engines.answers import completions, of_type, tokens_of, word_scores
from tasks.engines.conversations import CHAT, Messages, begun, word_question
from tasks.engines.refusals import DOES_NOT_FIT, FieldRefused, RowRefused
from tasks.engines.requests import most_bytes, request_body
from tasks.engines.transport import GivenUp, Transport

ONE_TOKEN = SamplingParams(temperature=0.0, max_tokens=1)
PING: Messages = ({"role": "user", "content": "Say hello."},)
T = TypeVar("T")


class EndpointEngine:
    """Implements `Generator`, `WordScoring` and `Metered`. The key is read from the environment when it is made."""

    def __init__(self, model: EndpointModelConfig, settings: EndpointResources) -> None:
        """Raises InputError for plain http to another machine, and for a key that cannot be one."""
        self.url, self.model, self.settings = model.url, model.model, settings
        self.usage = Usage()
        self._transport = Transport(model.url, model.model, openai_api_key(), settings)
        self._answered = 0.0
        """When a request was last answered."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        on_progress: Progress | None = None,
    ) -> list[Result]:
        """One result per conversation, in order; token ids of answers are not told, and so are ().

        Raises InputError for a wrong key, URL or model, StageFailed where the server is gone, refuses a setting or
        every row, and ValueError for token ids as prompts and for another number of params than of prompts.
        """
        settings = one_each(len(prompts), params)
        conversations = [as_messages(prompt) for prompt in prompts]
        total, done, before = sum(one.n for one in settings), 0, self.usage.generated_tokens

        def report(result: Result) -> None:
            nonlocal done
            done += len(result.outputs)
            if on_progress is not None:
                on_progress(done, total, self.usage.generated_tokens - before)

        pairs = [*zip(conversations, settings, strict=True)]
        results = asyncio.run(self._side_by_side(pairs, lambda client, pair: self._row(client, *pair), report))
        refuse_all(results)
        return results

    def word_logprobs(self, conversations: Sequence[Messages], words: Sequence[str]) -> list[tuple[float, ...] | None]:
        """The log-probability of each word to come next, from the likeliest tokens that the server tells.

        None for a conversation that is refused, such as one that is too long. See `answers.word_scores` for words
        that are not among those tokens. Raises NoLogprobs where the server tells no log-probabilities, as soon as the
        first answer shows it, and what `generate` raises.
        """
        asked = [word_question(conversation, words, self.settings) for conversation in conversations]

        async def score(client: httpx.AsyncClient, messages: Messages) -> tuple[float, ...] | None:
            return await self._words(client, messages, words)

        first = asyncio.run(self._side_by_side(asked[:1], score))
        return first + asyncio.run(self._side_by_side(asked[1:], score))

    async def _side_by_side(
        self,
        items: Sequence[Any],
        work: Callable[[httpx.AsyncClient, Any], Awaitable[T]],
        report: Callable[[T], None] = lambda _: None,
    ) -> list[T]:
        """`work` on each item, at most `concurrency` at once, its tries included; the first error ends all."""
        slots = asyncio.Semaphore(self.settings.concurrency)

        async def one(client: httpx.AsyncClient, item: Any) -> T:
            async with slots:
                result = await work(client, item)
            report(result)
            return result

        async with self._transport.client() as client:
            tasks = [asyncio.create_task(one(client, item)) for item in items]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _row(self, client: httpx.AsyncClient, messages: Messages, params: SamplingParams) -> Result:
        """All samples of one conversation; what went wrong with them is the result's error."""
        outputs: list[Completion] = []
        began, read = time.monotonic(), 0
        try:
            while len(outputs) < params.n:
                body = request_body(self.model, messages, params, self.settings, skip=len(outputs))
                fresh, tokens = await self._ask(client, body, params, body.get("n", 1))
                outputs += [self._after_the_beginning(messages, one) for one in fresh]
                read = read or tokens
        except RowRefused as error:
            return Result.failed(str(error), params)
        except GivenUp as error:
            await self._see_whether_it_lives(client, error, began)
            return Result.failed(str(error), params)
        if all(one.finish_reason == "error" for one in outputs):
            return Result(tuple(outputs), read, "the server withheld the answer (content filter)")
        return Result(tuple(outputs), read)

    async def _ask(
        self, client: httpx.AsyncClient, body: Mapping[str, Any], params: SamplingParams, most: int
    ) -> tuple[list[Completion], int]:
        """Up to `most` samples, and the prompt's tokens."""
        document, found = await self._transport.post(
            client, CHAT, body, most_bytes(params), lambda answer: (answer, completions(answer, params, most))
        )
        return found, self._count(document)

    async def _words(
        self, client: httpx.AsyncClient, messages: Messages, words: Sequence[str]
    ) -> tuple[float, ...] | None:
        params = replace(ONE_TOKEN, logprobs=MOST_LOGPROBS)
        body, began = request_body(self.model, messages, params, self.settings), time.monotonic()

        def read(answer: Any) -> tuple[Any, tuple[float, ...] | None]:
            completions(answer, params, 1)
            return answer, word_scores(of_type(answer["choices"][0], dict), words)

        try:
            document, scores = await self._transport.post(client, CHAT, body, most_bytes(params), read)
        except RowRefused:
            return None
        except FieldRefused as error:
            if error.field in ("logprobs", "top_logprobs"):
                raise NoLogprobs(error.message) from error
            raise
        except GivenUp as error:
            await self._see_whether_it_lives(client, error, began)
            return None
        self._count(document)
        if scores is None:
            raise NoLogprobs(f"{self.url} was asked for log-probabilities and sent none")
        return scores

    async def _see_whether_it_lives(self, client: httpx.AsyncClient, error: GivenUp, began: float) -> None:
        """Raise StageFailed where nobody has been answered since a row that was given up began, nor is now.

        Otherwise it is the row that the server cannot answer.
        """
        if self._answered >= began:
            return
        body = request_body(self.model, PING, ONE_TOKEN, self.settings)
        try:
            await self._transport.post(
                client, CHAT, body, most_bytes(ONE_TOKEN), lambda answer: completions(answer, ONE_TOKEN, 1), 1
            )
        except (GivenUp, RowRefused) as gone:
            raise StageFailed(
                f"{error} ({self.settings.attempts} attempts, and nobody else was answered meanwhile)",
                "see to that server, then give the same command: it goes on from the last finished shard",
            ) from gone
        self._answered = time.monotonic()

    def _count(self, document: Any) -> int:
        """Add a response to the usage; returns the prompt's tokens, 0 where not told."""
        self._answered = time.monotonic()
        tokens = tokens_of(document)
        if tokens is None:
            self.usage += Usage(unmetered=1)
            return 0
        settings = self.settings
        cost = (tokens[0] * settings.prompt_price + tokens[1] * settings.answer_price) / 1e6
        self.usage += Usage(tokens[0], tokens[1], cost=cost)
        return tokens[0]

    def _after_the_beginning(self, messages: Messages, answer: Completion) -> Completion:
        """Without the words that the answer was asked to begin with, where it says them again."""
        start = begun(messages).strip()
        if self.settings.continuation != "ask" or not start or not answer.text.lstrip().startswith(start):
            return answer
        return replace(answer, text=answer.text.lstrip()[len(start) :])


def as_messages(prompt: Prompt) -> Messages:
    """Raises ValueError for token ids: nobody here knows what they stand for."""
    messages = [part for part in prompt if isinstance(part, Mapping)]
    if len(messages) != len(prompt) or not messages:
        raise ValueError(f"a hosted model takes conversations of at least one message; found {str(prompt)[:80]!r}")
    return messages


def refuse_all(results: Sequence[Result]) -> None:
    """Raise StageFailed where several rows were asked and each failed for another reason than its length."""
    errors = [result.error for result in results if result.error]
    if len(errors) > 1 and len(errors) == len(results) and not any(one.startswith(DOES_NOT_FIT) for one in errors):
        raise StageFailed(f"all {len(results)} requests failed, the first with: {errors[0]}", "see to what it says")
