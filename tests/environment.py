"""The environment of commands that tests start as a user does, on a machine where nothing is configured."""

import os

SERVERS = ("RATCHET_", "PREFECT_", "MLFLOW_", "RAY_")
"""Variables that point to servers. MLflow's client exports its address once told, so earlier tests leave one behind."""


def bare_environment(*more: str) -> dict[str, str]:
    """This process's variables without those of servers, nor those that start with one of `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith((*SERVERS, *more))}
