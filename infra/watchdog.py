"""Ends a job's driver when its Ray head or its supervisor is gone, so that a killed cluster leaves no writer behind.

Ray does not do this: drivers of a killed head were seen writing for minutes.
"""

import os
import socket
import sys
import threading
import time

EXIT_CODE = 75
"""EX_TEMPFAIL: nothing is wrong with the work itself; try again."""


def start_watchdog(misses: int = 3, every_s: float = 1.0) -> None:
    """Watch from a daemon thread; the process exits with 75 soon after the head stops answering `misses` times.

    Ray's job supervisor sets RAY_ADDRESS to the head's GCS (host:port). Outside a Ray job there is nothing to watch.
    """
    host, _, port = os.environ.get("RAY_ADDRESS", "").rpartition(":")
    if host and "/" not in host and port.isdigit():
        arguments = (host.strip("[]"), int(port), os.getppid(), misses, every_s)
        threading.Thread(target=_watch, args=arguments, name="watchdog", daemon=True).start()


def _watch(host: str, port: int, parent: int, misses: int, every_s: float) -> None:
    missed = 0
    while missed < misses:
        time.sleep(every_s)
        if os.getppid() != parent:
            _exit(f"its parent (process {parent}) is gone")
        missed = 0 if _answers(host, port, every_s) else missed + 1
    _exit(f"the Ray head at {host}:{port} has not answered {misses} times")


def _answers(host: str, port: int, timeout_s: float) -> bool:
    try:
        socket.create_connection((host, port), timeout_s).close()
    except OSError:
        return False
    return True


def _exit(reason: str) -> None:
    """At once: no clean-up handler may write anything any more."""
    try:
        print(f"watchdog: {reason}; exiting", file=sys.stderr, flush=True)
    finally:
        os._exit(EXIT_CODE)
