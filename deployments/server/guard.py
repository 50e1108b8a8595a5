"""Who may ask: wraps the whole app, so that no route can be forgotten.

A browser sends what any web page tells it to. Two things keep a page from a server on the loopback address: names that
a stranger's DNS points at it are refused by the Host header (DNS rebinding), and request bodies must be declared as
JSON, which a browser only sends across origins after asking; nobody here answers such a question.
"""

import hmac
import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.readable import one_line
from deployments.server.errors import ApiError

OPEN_ROUTES = ("/health",)
"""Need no token."""


@dataclass(frozen=True)
class Access:
    """Who may ask what."""

    token: str | None = field(default=None, repr=False)
    """Clients must send it as a bearer token; None for none."""
    loopback_only: bool = True
    """Answer only to loopback names in the Host header."""


class Guard:
    """The app behind it sees only what `access` lets through; `log` gets one line for each request."""

    def __init__(self, app: ASGIApp, access: Access, log: Callable[[str], None] | None = None) -> None:
        self.app, self.access, self.log = app, access, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = 0, time.monotonic()

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            error = self._refusal(scope)
            await (error.response() if error else self.app)(scope, receive, watched)
        finally:
            if self.log is not None:
                path = one_line(scope["path"])[:200]
                self.log(f"{scope['method']} {path} {status or '-'} {time.monotonic() - started:.3f} s")

    def _refusal(self, scope: Scope) -> ApiError | None:
        found = [(name.lower(), value) for name, value in scope["headers"]]
        hosts = [value.decode("latin-1") for name, value in found if name == b"host"]
        if self.access.loopback_only and not (hosts and all(is_loopback(without_port(host)) for host in hosts)):
            return ApiError(403, "this server answers to localhost and 127.0.0.1 only", code="host_not_allowed")
        if self.access.token is not None and scope["path"] not in OPEN_ROUTES:
            given = [value for name, value in found if name == b"authorization"]
            if len(given) != 1 or not _is_token(given[0], self.access.token):
                return ApiError(401, "the bearer token is missing or wrong", code="invalid_api_key")
        return None


def _is_token(header: bytes, token: str) -> bool:
    scheme, _, given = header.partition(b" ")
    # Compared in full whatever differs, so that the time it takes tells nothing.
    return hmac.compare_digest(given.strip(), token.encode()) and scheme.lower() == b"bearer"


def without_port(host: str) -> str:
    """The name or address in a Host header."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def is_loopback(host: str) -> bool:
    """True for `localhost` and addresses that only this machine can reach; names are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
