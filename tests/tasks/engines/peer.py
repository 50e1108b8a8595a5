"""A real HTTP server that answers /v1/chat/completions as a test's script says, and remembers what it was asked."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """`body` is sent as it is if it is bytes. `cut` promises more than is sent; `slow_s` waits first."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    slow_s: float = 0.0
    cut: bool = False

    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Script = Callable[[dict[str, Any], int], Reply]
"""From a request's body and its number, from 0."""


def answer(text: str = "fine", finish: str | None = "stop", prompt: int = 10, written: int = 5, **choice: Any) -> Reply:
    """One completion."""
    return answers([text], finish, prompt, written, **choice)


def answers(texts: list[Any], finish: str | None, prompt: int, written: int, **choice: Any) -> Reply:
    choices = [{"index": place, "message": {"role": "assistant", "content": text}, "finish_reason": finish, **choice}
               for place, text in enumerate(texts)]  # fmt: skip
    return Reply({"choices": choices, "usage": {"prompt_tokens": prompt, "completion_tokens": written}})


def error(status: int, message: str, code: str | None = None, param: str | None = None, **headers: str) -> Reply:
    """As OpenAI tells it."""
    return Reply({"error": {"message": message, "type": "error", "code": code, "param": param}}, status, headers)


def logprobs(**top: float) -> dict[str, Any]:
    """A choice's log-probabilities for one token; underscores stand for blanks in the tokens' texts."""
    entries = [{"token": name.replace("_", " "), "logprob": value} for name, value in top.items()]
    return {"content": [{**entries[0], "top_logprobs": entries}]}


class Peer:
    """The server with its record. `script` may be changed at any time."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                peer.handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["content-length"])))
        with self._lock:
            number = len(self.asked)
            self.asked.append(body)
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self.paths.append(request.path)
            self.times.append(time.monotonic())
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            reply = self.script(body, number)
            time.sleep(reply.slow_s)
        finally:
            with self._lock:
                self._now -= 1
        try:
            data = reply.data()
            request.send_response(reply.status)
            for name, value in reply.headers.items():
                request.send_header(name.replace("_", "-"), value)
            request.send_header("content-length", str(len(data) + 100 * reply.cut))
            request.end_headers()
            request.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):  # the client went away, as some tests want
            pass


@contextmanager
def peer(script: Script) -> Iterator[Peer]:
    found = Peer(script)
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        found.server.server_close()
