"""From the engine's thread into the event loop: one HTTP request's answers, and what ends with it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.server.errors import ApiError, refused
from models.engine import SamplingParams, TokenLogprob
from models.engine.live import Busy, Increment, LiveEngine, Read, Refused, Stopped, Ticket, Told

Result = TypeVar("Result")


@dataclass
class Answers:
    """What one HTTP request asked of the engine. Closing it frees every row, from whatever thread, however it ended."""

    live: LiveEngine
    param: str
    """The request's field that holds its prompts, for errors."""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    inbox: "asyncio.Queue[tuple[int, Increment | Read | Exception]]" = field(default_factory=asyncio.Queue)
    _tickets: list[Ticket] = field(default_factory=list)
    _closed: bool = False
    _lock: Lock = field(default_factory=Lock)

    def ask(self, number: int, prompt: list[int], params: SamplingParams, whole: bool) -> None:
        """Begin to answer prompt `number` of the request; may be called from any thread. Raises ApiError."""
        self._open(lambda told: self.live.answer(prompt, params, told, whole), number, prompt)

    def read(self, number: int, prompt: list[int], alternatives: int) -> None:
        """Begin to score prompt `number` of the request, of at least two tokens. Raises ApiError."""
        self._open(lambda told: self.live.read(prompt, alternatives, told), number, prompt)

    def _open(self, submit: Callable[[Told], Ticket], number: int, prompt: list[int]) -> None:
        def told(what: Increment | Read | Exception) -> None:
            self.loop.call_soon_threadsafe(self.inbox.put_nowait, (number, what))

        self.check(prompt)
        try:
            ticket = submit(told)
        except Refused as error:
            raise refused(str(error), self.param, "context_length_exceeded") from error
        except Busy as error:
            raise ApiError(429, f"the server is busy: {error}; try again later", code="server_overloaded") from error
        except Stopped as error:
            raise ApiError(503, f"the server is stopping: {error}", code="server_stopping") from error
        except ValueError as error:
            raise refused(str(error), "response_format", "invalid_constraint") from error
        with self._lock:
            self._tickets.append(ticket)
            closed = self._closed
        if closed:  # while this thread was at work the client went away
            ticket.cancel()

    def check(self, prompt: list[int]) -> None:
        """Raise ApiError for a prompt that the model could not read, however long its context."""
        config = self.live.engine.config
        if not prompt:
            raise refused("the prompt is empty; expected at least one token", self.param)
        unknown = next((token for token in prompt if not config.has_token(token)), None)
        if unknown is not None:
            raise refused(f"token id {unknown} lies outside the model's vocabulary of {config.vocab_size}", self.param)

    async def next(self) -> tuple[int, Increment | Read]:
        """The next news, with the number of its prompt. Raises ApiError where the engine failed."""
        number, told = await self.inbox.get()
        if isinstance(told, Exception):
            raise ApiError(503 if isinstance(told, Stopped) else 500, str(told), code="engine_failed") from told
        return number, told

    async def scores(self, prompts: int) -> dict[int, tuple[TokenLogprob, ...]]:
        """By prompt, after `read` for that many of them and before any `ask`."""
        found: dict[int, tuple[TokenLogprob, ...]] = {}
        while len(found) < prompts:
            number, told = await self.next()
            assert isinstance(told, Read), f"{told} is no score"
            found[number] = told.logprobs
        return found

    async def increments(self, samples: int) -> AsyncIterator[tuple[int, Increment]]:
        """Increments with the number of their prompt, until that many samples are whole."""
        while samples:
            number, told = await self.next()
            assert isinstance(told, Increment), f"{told} is no increment"
            samples -= told.completion is not None
            yield number, told

    def close(self) -> None:
        with self._lock:
            self._closed = True
            tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            ticket.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ClientGone(Exception):
    """Nobody waits for the response any more."""


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` returns; it is cancelled, and ClientGone raised, when the client disconnects. The body is read."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientGone
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class EventStream(StreamingResponse):
    """Server-sent events: a JSON document each, then `[DONE]`. Its answers are closed however it ends."""

    def __init__(self, documents: AsyncIterator[dict[str, Any]], answers: Answers) -> None:
        super().__init__(
            events(documents), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )  # fmt: skip
        self.answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.answers:
            await super().__call__(scope, receive, send)


async def events(documents: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """As they go over the wire; an error ends them, in place of `[DONE]`."""
    try:
        async for document in documents:
            yield event(document)
        yield "data: [DONE]\n\n"
    except ApiError as error:
        yield event(error.document())


def event(document: dict[str, Any]) -> str:
    """ASCII only: some clients take a Unicode line separator for the end of a line."""
    return f"data: {json.dumps(document, separators=(',', ':'))}\n\n"
