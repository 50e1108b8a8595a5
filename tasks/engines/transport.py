"""One request to an endpoint, tried until it is answered, refused, or given up.

The key is sent to the endpoint's own host and nowhere else: redirects are not followed, and plain http is for this
machine. It is taken out of everything that comes back.
"""

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr

from infra.errors import InputError
from tasks.configs.base import EndpointResources
from tasks.configs.endpoint_model import is_loopback
from tasks.engines.refusals import Garbled, Problem, raise_for, read_problem

FIRST_PAUSE_S = 0.5
MOST_ERROR_BYTES = 1 << 16
T = TypeVar("T")


class GivenUp(Exception):
    """No attempt was answered; the text says what came last. `status` is 0 where nobody answered."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Transport:
    """Requests to one model of one endpoint; `client` is opened for each call of the engine."""

    def __init__(self, url: str, model: str, key: SecretStr | None, settings: EndpointResources) -> None:
        """Raises InputError for plain http to another machine."""
        if url.startswith("http://") and not (is_loopback(url) or settings.allow_http):
            raise InputError(
                f"{url} is not encrypted: prompts, answers and the key could be read on the way",
                "give an https URL, or set endpoint.allow_http=true in a network that you trust",
            )
        self.url, self.model, self.settings = url, model, settings
        self._key = key

    def client(self) -> httpx.AsyncClient:
        """Proxies of the environment serve for other machines only."""
        settings = self.settings
        return httpx.AsyncClient(
            timeout=httpx.Timeout(settings.answer_s, connect=settings.connect_s),
            limits=httpx.Limits(max_connections=settings.concurrency),
            headers={"accept-encoding": "identity", "user-agent": "ratchet"},
            follow_redirects=False,
            trust_env=not is_loopback(self.url),
        )

    async def post(
        self, client: httpx.AsyncClient, path: str, body: Mapping[str, Any], most_bytes: int,
        read: Callable[[Any], T], attempts: int | None = None,
    ) -> T:  # fmt: skip
        """What `read` makes of the JSON that is answered.

        Raises GivenUp after the last attempt, RowRefused for a request that cannot be answered, and InputError or
        StageFailed for what no request would get past.
        """
        last = GivenUp("not tried", 0)
        attempts = attempts or self.settings.attempts
        for attempt in range(attempts):
            wait: float | None = None
            try:
                status, headers, data = await self._exchange(client, path, body, most_bytes)
                text = self._without_key(data.decode("utf-8", "replace"))
                if status == 200:
                    return read(self._document(text))
                problem = read_problem(status, text or headers.get("location", ""))
                raise_for(problem, self.url, self.model, body.keys(), self._key is not None)
                last, wait = GivenUp(told(self.url, problem), status), retry_after(headers)
            except Garbled as error:
                last = GivenUp(f"{self.url} answers with no completion: {self._without_key(str(error))}", 200)
            except TimeoutError:
                last = GivenUp(f"{self.url} did not answer within {self.settings.answer_s:g} s", 0)
            except httpx.TransportError as error:
                reason = self._without_key(str(error)) or type(error).__name__
                last = GivenUp(f"{self.url} cannot be reached: {reason}", 0)
            if attempt + 1 < attempts:
                await asyncio.sleep(pause(attempt, wait, self.settings.longest_wait_s))
        raise last

    async def _exchange(
        self, client: httpx.AsyncClient, path: str, body: Mapping[str, Any], most_bytes: int
    ) -> tuple[int, httpx.Headers, bytes]:
        """One request. Reads no more than `most_bytes`. Raises Garbled, TimeoutError and httpx's errors."""
        headers = {} if self._key is None else {"authorization": f"Bearer {self._key.get_secret_value()}"}
        async with (
            asyncio.timeout(self.settings.answer_s),
            client.stream("POST", self.url + path, json=dict(body), headers=headers) as response,
        ):
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Garbled("compressed, though that was not asked for")
            most, data = most_bytes if response.status_code == 200 else MOST_ERROR_BYTES, bytearray()
            async for part in response.aiter_raw():
                data += part
                if len(data) > most and response.status_code == 200:
                    raise Garbled(f"more than {most:,} bytes")
                if len(data) > most:
                    break
            return response.status_code, response.headers, bytes(data[:most])

    def _document(self, text: str) -> Any:
        """Raises Garbled; a document nested too deeply is none either."""
        try:
            return self._clean(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise Garbled(f"no JSON: {text[:80]!r}") from error

    def _clean(self, value: Any) -> Any:
        """The key out of all text, where escapes hid it before."""
        if isinstance(value, str):
            return self._without_key(value)
        if isinstance(value, list):
            return [self._clean(item) for item in value]
        if isinstance(value, dict):
            return {name: self._clean(item) for name, item in value.items()}
        return value

    def _without_key(self, text: str) -> str:
        return text if self._key is None else text.replace(self._key.get_secret_value(), "[key]")


def told(url: str, problem: Problem) -> str:
    return f"{url} answers {problem.status}" + (f": {problem.message}" if problem.message else "")


def pause(attempt: int, asked: float | None, longest: float) -> float:
    """Seconds before the next attempt: what the server asks for, else twice as long each time, spread at random."""
    if asked is not None:
        return min(longest, asked * random.uniform(1.0, 1.1))
    return min(longest, FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, given as a number or a date; None where it says nothing readable."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a zone
        return None
