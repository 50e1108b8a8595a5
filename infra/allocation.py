"""How the C library gives memory to a process that trains on the processor: what is freed is kept.

Activations come and go by the gigabyte in every microbatch. By default glibc returns each large one to the system at
once, which then has to zero its pages again: a fourteenth of a step's time (benchmarks/training.md).
"""

import platform

SINCE = (2, 36)
"""The glibc that this was measured with. Older ones may refuse so large a threshold and then give back even more."""


def keeps_memory() -> dict[str, str]:
    """Environment variables, in bytes but for the last, for processes that are yet to start; none for other C
    libraries."""
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < SINCE:
        return {}
    return {
        "MALLOC_MMAP_THRESHOLD_": str(2**32),  # blocks below come from the heap,
        "MALLOC_TRIM_THRESHOLD_": str(2**33),  # which shrinks where so much lies free at its end,
        "MALLOC_TOP_PAD_": str(2**26),  # and grows by so much;
        "MALLOC_ARENA_MAX": "1",  # threads share it, since heaps of their own hold no large block
    }
