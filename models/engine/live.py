"""An engine that answers while it works: requests come and go at any time, from any thread.

One thread owns the engine and does all of its work. It takes up what was asked, computes a step, tells every request
what that step brought, and starts over. What it tells, it tells in its own thread: `Told` must only pass it on.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from types import TracebackType
from typing import Self

import torch

from models.engine.engine import Engine
from models.engine.increments import Increments
from models.engine.interface import Completion, SamplingParams, TokenLogprob
from models.engine.prompt_logprobs import PromptLogprobs
from models.engine.rows import Row
from models.engine.scheduler import Scheduler, Work

LOGGER = logging.getLogger(__name__)


class Refused(ValueError):
    """The prompt cannot be answered: too long, empty, unknown tokens."""


class Busy(RuntimeError):
    """As many rows wait as may wait."""


class Stopped(RuntimeError):
    """The engine failed, or was closed, before the request was answered."""


@dataclass(frozen=True)
class Increment:
    """What one sample has more than the last time."""

    sample: int
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens that are complete with this text, where they were asked for."""
    completion: Completion | None = None
    """The whole answer, with the sample's last increment."""
    stop_token: TokenLogprob | None = None
    """The token that ended the answer, with the last increment, where log-probabilities were asked for."""


@dataclass(frozen=True)
class Read:
    """A prompt's tokens after its first."""

    logprobs: tuple[TokenLogprob, ...]


Told = Callable[[Increment | Read | Exception], None]
"""Called in the engine's thread; after an exception comes nothing more."""


class Ticket:
    """One request. `cancel` may be called at any time, from any thread, and more than once."""

    def __init__(self, live: "LiveEngine", work: Sequence[Work], told: Told) -> None:
        self.live, self.told = live, told
        self.left: dict[Work, None] = dict.fromkeys(work)
        """What is not finished; the engine's thread alone looks at it."""

    def cancel(self) -> None:
        """Free what the request holds; it is told nothing more, but for what is being told at this moment."""
        self.live.cancel(self)

    def advance(self) -> None:
        """Tell what is new; called by the engine's thread, as is `finish`."""

    def finish(self, work: Work) -> None:
        raise NotImplementedError


class _Answering(Ticket):
    def __init__(self, live: "LiveEngine", rows: Sequence[Row], told: Told, whole: bool) -> None:
        super().__init__(live, rows, told)
        self.increments = {row: Increments(row) for row in rows}
        self.whole = whole

    def advance(self) -> None:
        if self.whole:
            return
        for row, increments in self.increments.items():
            if row in self.left:
                text, logprobs = increments.advance()
                if text or logprobs:
                    self.told(Increment(row.sample, text, logprobs))

    def finish(self, work: Work) -> None:
        assert isinstance(work, Row) and work.completion is not None, f"{work} is not finished"
        text, logprobs = self.increments[work].finish(work.completion)
        # With log-probabilities the row has one more than tokens where a stop token ended it.
        ended_by = work.logprobs[-1] if len(work.logprobs) > len(work.token_ids) else None
        self.told(Increment(work.sample, text, logprobs, work.completion, ended_by))


class _Scoring(Ticket):
    def __init__(self, live: "LiveEngine", scores: PromptLogprobs, told: Told) -> None:
        super().__init__(live, [scores.reading], told)
        self.scores = scores

    def finish(self, work: Work) -> None:
        self.told(Read(tuple(self.scores.found)))


class LiveEngine:
    """Owns an engine, which nobody else may use until this is closed."""

    def __init__(self, engine: Engine, max_waiting: int = 256) -> None:
        """`max_waiting`: rows that may wait while as many run as the engine takes."""
        self.engine = engine
        self.max_open = engine.limits.max_rows + max_waiting
        """Rows that may run and wait."""
        self.failure: str | None = None
        """What went wrong last in the engine's thread."""
        self._open = 0
        self._closed = False
        self._lock = Lock()
        """Guards `_open`, `_closed`, and that nothing is ordered after the end."""
        self._orders: SimpleQueue[Ticket | None] = SimpleQueue()
        """Requests that are new or cancelled, and None to wake up."""
        self._cancelled: set[Ticket] = set()
        self._tickets: dict[Ticket, None] = {}
        self._owners: dict[Work, Ticket] = {}
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive() and not self._closed

    # Asked from any thread

    def answer(self, prompt: Sequence[int], params: SamplingParams, told: Told, whole: bool = False) -> Ticket:
        """Begin to answer a prompt of token ids; with `whole` only finished samples are told.

        Raises Refused, Busy and Stopped, and ValueError for a constraint that cannot be read.
        """
        if error := self.engine.refusal(prompt, params):
            raise Refused(error)
        return self._submit(_Answering(self, self.engine.rows(prompt, params), told, whole))

    def read(self, prompt: Sequence[int], alternatives: int, told: Told) -> Ticket:
        """Begin to score the tokens of a prompt, at least two. Raises Refused, Busy and Stopped."""
        # Nothing follows the prompt, so that it may fill the context.
        for part in (prompt[:-1], prompt[-1:]):
            if error := self.engine.refusal(part, SamplingParams(max_tokens=1)):
                raise Refused(error)
        scores = PromptLogprobs(prompt, alternatives, self.engine.scheduler.unembed)
        return self._submit(_Scoring(self, scores, told))

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[Increment]:
        """Increments of all samples as they come; closing the iterator cancels. Raises as `answer`, and Stopped."""
        inbox: SimpleQueue[Increment | Read | Exception] = SimpleQueue()
        ticket = self.answer(prompt, params, inbox.put)
        left = params.n
        try:
            while left:
                told = inbox.get()
                if isinstance(told, Exception):
                    raise told
                assert isinstance(told, Increment), f"{told} is no increment"
                left -= told.completion is not None
                yield told
        finally:
            ticket.cancel()

    def cancel(self, ticket: Ticket) -> None:
        with self._lock:
            self._cancelled.add(ticket)
            self._orders.put(ticket)

    def begin_close(self) -> None:
        """Take no more requests and let the open ones fail; returns at once."""
        with self._lock:
            self._closed = True
            self._orders.put(None)

    def close(self, timeout_s: float | None = None) -> None:
        """End after the step that is being computed. Raises TimeoutError where that takes longer."""
        self.begin_close()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(f"the engine computes a step that takes longer than {timeout_s} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, ticket: Ticket) -> Ticket:
        with self._lock:
            if self._closed:
                raise Stopped(self.failure or "the engine is closed")
            if self._open + len(ticket.left) > self.max_open:
                raise Busy(f"{self._open} rows run or wait; there is room for {self.max_open}")
            self._open += len(ticket.left)
            self._orders.put(ticket)
        return ticket

    # The engine's thread

    def _run(self) -> None:
        with torch.inference_mode():
            try:
                while not self._closed:
                    self._take_orders()
                    self._step()
            finally:
                self.begin_close()
                self._fail_all(Stopped(self.failure or "the engine was closed"))

    def _take_orders(self) -> None:
        """Look at all that was ordered; wait for something where there is nothing else to do."""
        try:
            order = self._orders.get(block=self.engine.scheduler.idle)
            while True:
                if order is not None:
                    self._take_up(order)
                order = self._orders.get_nowait()
        except Empty:
            return

    def _take_up(self, ticket: Ticket) -> None:
        with self._lock:
            cancelled = ticket in self._cancelled
            self._cancelled.discard(ticket)
        if cancelled:
            self._forget(ticket)
        elif ticket.left:
            self._tickets[ticket] = None
            self._owners |= dict.fromkeys(ticket.left, ticket)
            self.engine.scheduler.submit(ticket.left)

    def _step(self) -> None:
        try:
            finished = [] if self.engine.scheduler.idle else self.engine.scheduler.step()
        except Exception as error:
            LOGGER.exception("the engine failed; every open request ends")
            self.failure = f"{type(error).__name__}: {error}"
            # Half a step may have been done: nothing of it is kept.
            self.engine.scheduler = Scheduler(self.engine.scheduler.model, self.engine.limits)
            self._fail_all(Stopped(f"the engine failed: {self.failure}"))
            return
        for work in finished:
            if work in self._owners:  # its request may have ended with another of its samples
                self._finish(self._owners[work], work)
        for ticket in [*self._tickets]:
            self._tell(ticket, ticket.advance)

    def _finish(self, ticket: Ticket, work: Work) -> None:
        del self._owners[work], ticket.left[work]
        with self._lock:
            self._open -= 1
        if not ticket.left:
            del self._tickets[ticket]
        self._tell(ticket, lambda: ticket.finish(work))

    def _tell(self, ticket: Ticket, tell: Callable[[], None]) -> None:
        """A request that cannot be told ends; the others go on."""
        try:
            tell()
        except Exception as error:
            LOGGER.exception("a request ends, for it cannot be told its answer")
            self._forget(ticket)
            self._fail(ticket, error)

    def _forget(self, ticket: Ticket) -> None:
        self._tickets.pop(ticket, None)
        for work in ticket.left:
            if self._owners.pop(work, None):
                self.engine.scheduler.cancel(work)
        with self._lock:
            self._open -= len(ticket.left)
        ticket.left.clear()

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        try:
            ticket.told(error)
        except Exception:
            LOGGER.exception("a request that failed cannot be told so")

    def _fail_all(self, error: Exception) -> None:
        """End every request, those included that were not taken up; the engine can be used again."""
        waiting: list[Ticket] = []
        while not self._orders.empty():
            order = self._orders.get_nowait()
            waiting += [] if order is None else [order]
        for ticket in dict.fromkeys([*self._tickets, *waiting]):
            with self._lock:
                cancelled = ticket in self._cancelled
                self._cancelled.discard(ticket)
                self._open -= len(ticket.left)
            if ticket.left and not cancelled:
                self._fail(ticket, error)
            for work in ticket.left:
                self.engine.scheduler.cancel(work)
            ticket.left.clear()
        self._tickets.clear()
        self._owners.clear()
