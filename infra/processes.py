"""Finds and ends the processes of a stack by the mark in their environment, whatever became of their parents."""

import os
import time
from contextlib import suppress

import psutil

from infra.services import MARK

END_S = 10.0


def marked(mark: str) -> list[psutil.Process]:
    """Live processes whose mark is `mark` or lies below it, with all their children; never this one."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            value = process.environ().get(MARK, "")
            if value == mark or value.startswith(f"{mark}/"):
                found |= {each.pid: each for each in (process, *process.children(recursive=True))}
    found.pop(os.getpid(), None)
    return [process for process in found.values() if is_alive(process)]


def is_alive(process: psutil.Process) -> bool:
    """Running in any sense: a zombie is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end_marked(mark: str) -> None:
    """KILL them until none is left; at most `END_S` seconds."""
    deadline = time.monotonic() + END_S
    while (left := marked(mark)) and time.monotonic() < deadline:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)
