"""TCP ports of this machine's loopback: which are free, and who holds one that is not."""

import random
import socket
from contextlib import suppress

import psutil

FIRST, LAST = 20000, 32000
"""Below the range from which the system takes ports for outgoing connections, so that none is taken in between."""


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """That many different free ports."""
    found: list[int] = []
    draw = random.Random()
    while len(found) < count:
        port = draw.randrange(FIRST, LAST)
        if port not in found and is_free(port):
            found.append(port)
    return found


def holder(port: int) -> str:
    """ "process 123 (python …)" for who listens on the port, "" where this user may not see it."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            local = (*connection.laddr, 0, 0)[:2]
            if local[1] == port and connection.status == psutil.CONN_LISTEN and connection.pid is not None:
                return describe(connection.pid)
    return ""


def describe(process: int) -> str:
    """ "process 123 (its command line, cut)" """
    with suppress(psutil.Error):
        command = " ".join(psutil.Process(process).cmdline())
        return f"process {process} ({command if len(command) <= 80 else command[:79] + '…'})"
    return f"process {process}"
