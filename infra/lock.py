"""One embedded run per workspace: a lock that the system frees when its owner ends, however that happens."""

import fcntl
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.errors import ServiceError

RUN_LOCK = "run.lock"


class FileLock:
    """flock on `path`; the file's content says who holds it. Children that exec do not inherit it, forks do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, owner: dict[str, Any] | None = None) -> bool:
        """Take the lock unless someone else holds it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ServiceError(
                f"cannot write {self.path}: {error.strerror}",
                "free space or rights there, or choose another --workspace",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner or {}).encode(), 0)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def owner(self) -> dict[str, Any]:
        """What the holder wrote; {} when that cannot be read."""
        try:
            return json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}

    def is_held(self) -> bool:
        """Whether anyone, this process included, holds it now."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)


@contextmanager
def workspace_lock(workspace: Path) -> Iterator[None]:
    """Hold the workspace for one embedded run. Raises ServiceError naming who holds it."""
    lock = FileLock(workspace / RUN_LOCK)
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    if not lock.acquire({"pid": os.getpid(), "command": command, "since": time.strftime("%F %T")}):
        owner = {"pid": "?", "command": "?", "since": "?", **lock.owner()}
        by = f"process {owner['pid']} ({owner['command']}) since {owner['since']}"
        raise ServiceError(
            f"the workspace {workspace} is in use by {by}",
            "wait until it ends, or give this run another --workspace",
        )
    try:
        yield
    finally:
        lock.release()
