"""A socket, and the HTTP server on it until Ctrl-C."""

import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from infra.errors import InputError, ServiceError
from infra.ports import holder
from models.engine.live import LiveEngine

STOP_S = 5
"""Seconds that open responses get to end, once told so."""


def open_socket(host: str, port: int) -> socket.socket:
    """Bound, but not listening: early, so that a port that is in use is found before a model is loaded.

    Raises InputError for a host that is not this machine's, ServiceError for a port that cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {host!r} is not known: {error}", "give an address of this machine") from error
    # localhost means IPv4 first, as it does to most clients.
    family, kind, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    opened = socket.socket(family, kind)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(address)
    except OSError as error:
        opened.close()
        raise _unavailable(host, port, error) from error
    return opened


def url_of(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: ASGIApp, opened: socket.socket, live: LiveEngine, ready: Callable[[], None]) -> None:
    """Answer until a signal; `ready` is called once requests are accepted. Ctrl-C is raised as KeyboardInterrupt."""
    host, port = opened.getsockname()[:2]
    try:
        opened.listen()
    except OSError as error:  # two may bind an address, one may listen
        raise _unavailable(host, port, error) from error
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=STOP_S,
    )  # fmt: skip
    _Server(config, live, ready).run(sockets=[opened])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, live: LiveEngine, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.live, self.ready = live, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Open streams end now; without that they would be waited for.
        self.live.begin_close()
        await super().shutdown(sockets)


def _unavailable(host: str, port: int, error: OSError) -> ServiceError:
    owner = holder(port)
    return ServiceError(
        f"{host}:{port} cannot be listened on: {error.strerror}{f'; {owner} does' if owner else ''}",
        "choose another --port, or end what uses this one",
    )
