"""Servers for one command: those that are configured, those that `ratchet up` left running, or embedded ones."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.lock import workspace_lock
from infra.settings import Settings
from infra.stack import Endpoints, Stack

Status = Callable[[str], None]


@dataclass
class Session:
    """Addresses of the servers in use. `cluster()` starts an embedded Ray at its first call."""

    settings: Settings
    prefect_api_url: str
    mlflow_tracking_uri: str
    cluster: Callable[[], str]
    embedded: bool


@contextmanager
def session(settings: Settings, say: Status) -> Iterator[Session]:
    """Servers for the block; the embedded ones end with it (and with this process, however it ends)."""
    workspace = settings.workspace
    stack = Stack(workspace)
    running = stack.running()
    with ExitStack() as cleanup:
        prefect = settings.prefect_api_url or (running.prefect_api_url if running else None)
        mlflow = settings.mlflow_tracking_uri or (running.mlflow_tracking_uri if running else None)
        ray = settings.ray_address or (running.ray_address if running else None)
        missing = {name for name, url in (("prefect", prefect), ("mlflow", mlflow)) if url is None}
        if missing or ray is None:
            cleanup.enter_context(workspace_lock(workspace))
            cleanup.callback(stack.stop)
        if missing:
            say(f"starting {' and '.join(sorted(missing))} in {workspace}")
            started = stack.start(missing)
            prefect, mlflow = prefect or started.prefect_api_url, mlflow or started.mlflow_tracking_uri
        configure(prefect, workspace)
        cluster = lambda: ray or start_ray(stack, say)  # noqa: E731 (one expression, named for its reader)
        yield Session(settings, str(prefect), str(mlflow), cluster, embedded=bool(missing or ray is None))


def start_ray(stack: Stack, say: Status) -> str:
    """The embedded Ray's job server, started once."""
    endpoints: Endpoints | None = stack.endpoints
    if endpoints is None or endpoints.ray_address is None:
        say("starting ray")
        endpoints = stack.start({"ray"})
    return str(endpoints.ray_address)


def configure(prefect_api_url: str | None, workspace: Path) -> None:
    """What Prefect and MLflow read from the environment; set before either is imported."""
    os.environ.update(
        PREFECT_API_URL=str(prefect_api_url),
        PREFECT_HOME=str(workspace / "prefect"),
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW="ignore",
        PREFECT_LOGGING_LEVEL="WARNING",
        DO_NOT_TRACK="1",
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="3",
        RATCHET_WORKSPACE=str(workspace),
    )
