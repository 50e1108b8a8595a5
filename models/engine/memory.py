"""How much memory there is for keys and values."""

from pathlib import Path

import torch

from models.config import ModelConfig

SHARE = 0.5
"""Of what is free; the rest is for a step's own numbers, for slabs that are not full, and for other processes."""
MOST_ON_HOST = 4 * 2**30
"""A processor is busy long before its rows fill more."""
CGROUP = Path("/sys/fs/cgroup")


def cache_token_bytes(config: ModelConfig, itemsize: int) -> int:
    """Bytes of keys and values of one token."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * itemsize


def default_cache_bytes(device: torch.device) -> int:
    """Half of what is free on the device now; no more than MOST_ON_HOST of a processor's memory."""
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    return min(MOST_ON_HOST, int(SHARE * free_host_bytes()))


def free_host_bytes() -> int:
    """Memory that this process may still take: the machine's, or its container's where that is less."""
    return min(_machine_free(), _container_free())


def _machine_free() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # no Linux: count on little
        return 8 * 2**30


def _container_free() -> int:
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 2**63
    return 2**63 if limit == "max" else max(0, int(limit) - used + int(stat.get("inactive_file", 0)))
