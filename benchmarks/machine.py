"""What a benchmark's process asks of its machine: how fast it is now, and how much memory the process has taken."""

import time
from pathlib import Path

import torch

GEMM_SIZE = 2048


def gemm_rate() -> float:
    """FLOP/s of one large fp32 matrix product, the best of several; a busy machine shows in it."""
    left, right = torch.randn(GEMM_SIZE, GEMM_SIZE), torch.randn(GEMM_SIZE, GEMM_SIZE)
    seconds = []
    for _ in range(8):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2 * GEMM_SIZE**3 / min(seconds)


def peak_bytes() -> int:
    """Most memory that this process ever held. (getrusage would count the parent's, before the exec.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
