"""The process that owns a workspace's services: starts them, reports when one ends, and takes all of them down.

    python -P -m infra.supervisor WORKSPACE

One JSON object a line on stdin: {"start": {Service}} or {"detach": true}; on stdout: {"event": "busy" | "ready" |
"started" | "exited" | "detached", …}. It ends, and the services with it, on TERM, and until it is told to detach also
when stdin closes or its owner is gone. A forked guard outlives it and ends the services even if it is killed.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infra.lock import FileLock
from infra.processes import end_marked
from infra.services import Service, environment, stack_id

TICK_S = 0.25
BUSY_S = 30.0
"""Seconds that the services of a run before this one may take to go."""
RESTART_AFTER_S = 1.0
GIVE_UP_BELOW_S = 20.0
"""A service that ends sooner after its start than this is not started again."""
PR_SET_PDEATHSIG = 1
STATE = "stack.json"
LOCK = "services.lock"


def die_with_parent() -> None:
    """Runs in the child before exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Running:
    """One started service."""

    def __init__(self, workspace: Path, service: Service) -> None:
        self.service = service
        self.started = time.time()
        with service.log.open("ab") as log:
            self.process = subprocess.Popen(
                service.command,
                cwd=service.folder,
                env=environment(workspace, service),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def stop(self, mark: str) -> None:
        """TERM, then KILL for whatever is left of it."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(self.service.stop_s)
        end_marked(mark)
        self.process.wait()


class Supervisor:
    """Everything between the first command and the last service's end."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.mark = stack_id(workspace)
        self.running: dict[str, Running] = {}
        self.given_up: set[str] = set()
        self.owner = os.getppid()
        self.attached = True
        self.ending = False
        self.started = time.time()

    def serve(self) -> None:
        """Until the end; then stop what runs, in reverse order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        self._tell("ready")
        pending = b""
        while not self.ending:
            if not self.attached:
                time.sleep(TICK_S)
            elif select.select([0], [], [], TICK_S)[0]:
                data = os.read(0, 1 << 16)
                self.ending = not data
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
            if self.attached and os.getppid() != self.owner:
                self.ending = True
            self._look()
        for running in reversed(self.running.values()):
            running.stop(f"{self.mark}/{running.service.name}")

    def _end(self, *_: Any) -> None:
        self.ending = True

    def _obey(self, command: dict[str, Any]) -> None:
        if "start" in command:
            values = command["start"]
            self._start(Service(**values | {"folder": Path(values["folder"]), "log": Path(values["log"])}))
        elif "detach" in command:
            self.attached = False
            self._write_state()
            self._tell("detached")
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)

    def _start(self, service: Service) -> None:
        self.given_up.discard(service.name)
        self.running[service.name] = Running(self.workspace, service)
        self._write_state()
        self._tell("started", service=service.name, pid=self.running[service.name].process.pid)

    def _look(self) -> None:
        """Report services that ended; a detached stack starts them again."""
        for name, running in list(self.running.items()):
            code = running.process.poll()
            if code is None or name in self.given_up:
                continue
            end_marked(f"{self.mark}/{name}")
            self._tell("exited", service=name, code=code)
            print(f"{time.strftime('%F %T')} {name} ended with {code}", file=sys.stderr, flush=True)
            if self.attached or time.time() - running.started < GIVE_UP_BELOW_S:
                self.given_up.add(name)
            else:
                time.sleep(RESTART_AFTER_S)
                self._start(running.service)

    def _write_state(self) -> None:
        """What other processes read to find the services."""
        services = {
            name: {
                "url": running.service.url,
                "health": running.service.health,
                "log": str(running.service.log),
                "pid": running.process.pid,
            }
            for name, running in self.running.items()
        }
        state = {
            "mode": "embedded" if self.attached else "up",
            "pid": os.getpid(),
            "owner": self.owner if self.attached else None,
            "started": self.started,
            "services": services,
        }
        part = self.workspace / f"{STATE}.part"
        part.write_text(json.dumps(state, indent=1))
        part.replace(self.workspace / STATE)

    def _tell(self, event: str, **values: Any) -> None:
        try:
            os.write(1, json.dumps({"event": event, **values}).encode() + b"\n")
        except BrokenPipeError:
            self.ending = self.attached


def fork_guard(workspace: Path, mark: str) -> None:
    """A child that waits for this process's end, however it comes, and then ends every marked process.

    It shares the lock, so that nobody starts new services before it is done.
    """
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(read_end)
        return
    os.setsid()
    os.close(write_end)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    while os.read(read_end, 1):
        pass
    end_marked(mark)
    (workspace / STATE).unlink(missing_ok=True)
    os._exit(0)


def main(workspace: Path) -> int:
    lock = FileLock(workspace / LOCK)
    deadline = time.monotonic() + BUSY_S
    while not lock.acquire():
        if time.monotonic() > deadline or os.getppid() == 1:
            os.write(1, json.dumps({"event": "busy"}).encode() + b"\n")
            return 1
        time.sleep(0.1)
    mark = stack_id(workspace)
    end_marked(mark)  # of a stack whose supervisor and guard were both killed
    fork_guard(workspace, mark)
    Supervisor(workspace).serve()
    (workspace / STATE).unlink(missing_ok=True)
    return 0


def start_command(service: Service) -> str:
    """The line that asks a supervisor to start `service`."""
    return json.dumps({"start": asdict(service) | {"folder": str(service.folder), "log": str(service.log)}})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
