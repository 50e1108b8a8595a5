"""The owner's end of a supervisor: commands in, events out."""

import json
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from infra.errors import ServiceError

DOWN_S = 60.0
"""Seconds that all services together may take to stop."""
LOG_LINES = 12


class SupervisorLink:
    """A supervisor that this process started: commands in, events out."""

    def __init__(self, workspace: Path) -> None:
        self.log = workspace / "logs" / "supervisor.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "infra.supervisor", str(workspace)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, name="supervisor-events", daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.put(json.loads(line))
        self.events.put({"event": "gone"})

    def send(self, line: str) -> None:
        """Nothing happens when it is gone: an event says so."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def expect(self, event: str) -> None:
        """Wait for one event, before any service is started."""
        found = self.events.get(timeout=DOWN_S)["event"]
        if found == event:
            return
        if found == "busy":
            raise ServiceError("another run's services still use this workspace", "`ratchet status` says whose")
        raise ServiceError(f"the supervisor of the services ended: {tail(self.log)}", f"see {self.log}")

    def end(self, wait_s: float) -> bool:
        """Close its input, which makes it stop everything; whether it is gone within `wait_s` seconds."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return False
        return True


def tail(log: Path) -> str:
    """The last lines, joined by " | "."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"(no log: {error.strerror})"
    return " | ".join(line.strip() for line in lines[-LOG_LINES:] if line.strip()) or "(its log is empty)"
