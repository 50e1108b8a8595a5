"""A process with the allocator's settings gets memory back that it freed, without the system's help."""

import os
import subprocess
import sys

import pytest

from infra.allocation import keeps_memory

PAGES_OF_A_SMALLER_BLOCK = """
import resource, sys, threading, torch
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    torch.empty(2**25).fill_(1.0)
    before = faults()
    torch.empty(2**24).fill_(1.0)
    print(faults() - before)
if sys.argv[1] == "main":
    work()
else:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""
PAGES = 4 * 2**24 // 4096


def new_pages(settings: dict[str, str], thread: str) -> int:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PAGES_OF_A_SMALLER_BLOCK, thread]
    return int(subprocess.run(command, env=plain | settings, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not keeps_memory(), reason="this C library has no such settings")
@pytest.mark.parametrize("thread", ["main", "another"])  # Ray Train's loops run in another
def test_memory_that_was_freed_is_used_again(thread: str) -> None:
    assert new_pages({}, thread) > 0.9 * PAGES
    assert new_pages(keeps_memory(), thread) < 0.1 * PAGES
