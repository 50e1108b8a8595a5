"""A stage's way into Ray, for work in processes of its own."""

import os

import ray


def join(cores: int) -> None:
    """Join the job's cluster, or start a private one of `cores` where the process is in none."""
    if not ray.is_initialized():
        inside = "RAY_ADDRESS" in os.environ
        ray.init(
            address="auto" if inside else "local",
            num_cpus=None if inside else cores,
            include_dashboard=None if inside else False,
            log_to_driver=False,
        )


def reason(error: Exception) -> str:
    """The last line of what Ray says, which is the error of the process that it quotes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
