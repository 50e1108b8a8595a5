"""The local stack as its user sees it: start services, wait until they are ready, stop them.

with Stack(workspace) as stack:                   # embedded: the services end with this process, however it ends
    endpoints = stack.start({"prefect", "mlflow"})
    endpoints = stack.start({"ray"})

Stack(workspace).up()                             # they stay, found by status() and ended by down()
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.errors import ServiceError
from infra.lock import FileLock
from infra.ports import describe, free_ports
from infra.processes import end_marked, marked
from infra.services import ORDER, PREFERRED, Service, check_port, make_folders, make_service, stack_id
from infra.supervisor import LOCK, STATE, start_command
from infra.supervisor_link import DOWN_S, SupervisorLink, tail

READY_S = 300.0
"""Seconds that a service may need on a busy machine, its first database migration included."""
PROBE_S = 2.0

OnStatus = Callable[[str, str, float], None]
"""Called with the service, "starting" or "ready", and the seconds since its start."""


@dataclass(frozen=True)
class Endpoints:
    """URLs of what was started; None for the rest."""

    prefect_api_url: str | None = None
    mlflow_tracking_uri: str | None = None
    ray_address: str | None = None

    @staticmethod
    def of(urls: Mapping[str, str]) -> "Endpoints":
        return Endpoints(urls.get("prefect"), urls.get("mlflow"), urls.get("ray"))


@dataclass(frozen=True)
class ServiceStatus:
    """One service of a stack that runs."""

    name: str
    url: str
    healthy: bool
    detail: str
    """Why it is not healthy; "" when it is."""
    pid: int
    log: str


@dataclass(frozen=True)
class StackStatus:
    """`mode` is "up", "embedded" (of a run under way) or "down"."""

    mode: str
    pid: int | None
    started: float | None
    """Seconds since the epoch."""
    services: tuple[ServiceStatus, ...]

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints.of({service.name: service.url for service in self.services})


class Stack:
    """The services of one workspace."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace.absolute()
        self._link: SupervisorLink | None = None
        self._services: dict[str, Service] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints.of({name: service.url for name, service in self._services.items()})

    def start(
        self,
        services: Iterable[str],
        ports: Mapping[str, int] | None = None,
        on_status: OnStatus | None = None,
    ) -> Endpoints:
        """Start those that do not run yet, side by side, and wait until all are ready; may be called again for more.

        A service takes its port from `ports`, else a free one. Raises ServiceError with the end of the log when one
        does not become ready; then everything of this stack is stopped.
        """
        with self._lock:
            self._forget_ended()
            names = sorted(set(services) - set(self._services), key=lambda name: (*ORDER, name).index(name))
            free = dict(zip(names, free_ports(len(names)), strict=True))
            new = [make_service(name, self.workspace, (ports or free).get(name, free[name])) for name in names]
            if not new:
                return self.endpoints
            try:
                self._open()
                self._launch(new, on_status or (lambda *_: None))
            except BaseException:
                self.stop()
                raise
            return self.endpoints

    def stop(self) -> None:
        """Stop everything that this process started, in reverse order; nothing is left."""
        with self._lock:
            link, self._link, self._services = self._link, None, {}
            if link is not None and not link.end(DOWN_S):
                link.process.kill()
            if link is not None:
                end_marked(stack_id(self.workspace))

    def up(self, ports: Mapping[str, int] | None = None, on_status: OnStatus | None = None) -> Endpoints:
        """Start all services for good, on their usual ports unless `ports` says otherwise.

        Raises ServiceError when a port is in use, or when this workspace's services run already.
        """
        status = self.status()
        if status.mode != "down":
            raise ServiceError(
                f"the services of {self.workspace} run already ({status.mode}, process {status.pid})",
                "`ratchet status` shows them, `ratchet down` stops them",
            )
        chosen = PREFERRED | dict(ports or {})
        for name, port in chosen.items():
            check_port(name, port)
        self.start(ORDER, chosen, on_status)
        assert self._link is not None
        self._link.send(json.dumps({"detach": True}))
        self._link.expect("detached")
        self._link = None
        return self.endpoints

    def status(self) -> StackStatus:
        """What runs in this workspace, whoever started it; every service is probed."""
        state = self._state()
        if state is None:
            return StackStatus("down", None, None, ())
        services = tuple(probe(name, values) for name, values in state["services"].items())
        return StackStatus(state["mode"], state["pid"], state["started"], services)

    def down(self) -> bool:
        """Stop a stack that `up` started, from any process; False when none runs.

        Raises ServiceError when the services belong to a run under way.
        """
        state = self._state()
        if state is None:
            return False
        if state["mode"] == "embedded":
            raise ServiceError(
                f"the services of {self.workspace} belong to a run: {describe(state['owner'])}",
                "stop that run (Ctrl-C there); its services end with it",
            )
        with suppress(psutil.NoSuchProcess):
            psutil.Process(state["pid"]).terminate()
        lock, deadline = FileLock(self.workspace / LOCK), time.monotonic() + DOWN_S
        while lock.is_held():
            if time.monotonic() > deadline:
                left = ", ".join(describe(process.pid) for process in marked(stack_id(self.workspace)))
                raise ServiceError(f"the services did not end within {DOWN_S:.0f} s: {left}", "end these processes")
            time.sleep(0.1)
        return True

    def _state(self) -> dict[str, Any] | None:
        """The supervisor's file, if a supervisor holds the services' lock."""
        if not FileLock(self.workspace / LOCK).is_held():
            return None
        try:
            return json.loads((self.workspace / STATE).read_text())
        except (OSError, ValueError):  # it has just started, or is ending
            return None

    def _forget_ended(self) -> None:
        """Services that ended since, and all of them when the supervisor did: it took them with it."""
        while self._link is not None and not self._link.events.empty():
            event = self._link.events.get_nowait()
            if event["event"] == "exited":
                self._services.pop(event["service"], None)
            elif event["event"] == "gone":
                self._link, self._services = None, {}

    def _open(self) -> None:
        if self._link is None:
            make_folders(self.workspace)
            self._link = SupervisorLink(self.workspace)
            self._link.expect("ready")

    def _launch(self, new: list[Service], on_status: OnStatus) -> None:
        assert self._link is not None
        for service in new:
            self._link.send(start_command(service))
            on_status(service.name, "starting", 0.0)
        started, waiting = time.monotonic(), {service.name: service for service in new}
        while waiting:
            self._check_events(waiting)
            for service in list(waiting.values()):
                if answers(service.health):
                    del waiting[service.name]
                    on_status(service.name, "ready", time.monotonic() - started)
            if waiting and time.monotonic() - started > READY_S:
                service = next(iter(waiting.values()))
                raise failure(service, f"was not ready within {READY_S:.0f} s")
            time.sleep(0.1 if waiting else 0.0)
        self._services |= {service.name: service for service in new}

    def _check_events(self, waiting: Mapping[str, Service]) -> None:
        """Raise when a service that is waited for, or the supervisor, has ended."""
        assert self._link is not None
        with suppress(queue.Empty):
            while True:
                event = self._link.events.get_nowait()
                if event["event"] == "gone":
                    raise ServiceError(f"the supervisor of the services ended: {tail(self._link.log)}", "try again")
                if event["event"] == "exited" and event["service"] in waiting:
                    raise failure(waiting[event["service"]], f"ended with {event['code']} while starting")


def failure(service: Service, what: str) -> ServiceError:
    return ServiceError(f"{service.name} {what}: {tail(service.log)}", f"the whole log is {service.log}")


def answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=PROBE_S, trust_env=False).status_code == 200
    return False


def probe(name: str, values: Mapping[str, Any]) -> ServiceStatus:
    """Ask the service itself, and say what its process is when it does not answer."""
    healthy = answers(values["health"])
    detail = ""
    if not healthy:
        alive = psutil.pid_exists(values["pid"])
        detail = f"{'does not answer' if alive else 'has ended'}: {tail(Path(values['log']))[-300:]}"
    return ServiceStatus(name, values["url"], healthy, detail, values["pid"], values["log"])
