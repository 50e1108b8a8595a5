"""Servers for one command: those that are configured, those that `ratchet up` left running, or embedded ones."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

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
    status = stack.status()
    running = status.endpoints if status.mode == "up" else Endpoints()
    with ExitStack() as cleanup:
        prefect = settings.prefect_api_url or running.prefect_api_url
        mlflow = settings.mlflow_tracking_uri or running.mlflow_tracking_uri
        ray = settings.ray_address or running.ray_address
        missing = {name for name, url in (("prefect", prefect), ("mlflow", mlflow)) if url is None}
        if missing or ray is None:
            cleanup.enter_context(workspace_lock(workspace))
            cleanup.callback(stack.stop)
        if missing:
            say(f"starting {' and '.join(sorted(missing))} in {workspace}")
            started = stack.start(missing)
            prefect, mlflow = prefect or started.prefect_api_url, mlflow or started.mlflow_tracking_uri
        cluster = lambda: ray or start_ray(stack, say)  # noqa: E731 (one expression, named for its reader)
        yield Session(settings, str(prefect), str(mlflow), cluster, embedded=bool(missing or ray is None))


@contextmanager
def registry_server(settings: Settings, say: Status, create: bool = False) -> Iterator[str | None]:
    """MLflow alone, for a command that needs no more: the configured one, one that runs (of a run under way, too), or
    an embedded one. None in a workspace that never had one, unless `create`.
    """
    workspace = settings.workspace
    url = settings.mlflow_tracking_uri or Stack(workspace).status().endpoints.mlflow_tracking_uri
    if url is not None or not (create or (workspace / "db" / "mlflow.db").exists()):
        yield url
        return
    with workspace_lock(workspace), Stack(workspace) as stack:
        say(f"starting mlflow in {workspace}")
        yield stack.start({"mlflow"}).mlflow_tracking_uri


def start_ray(stack: Stack, say: Status) -> str:
    """The embedded Ray's job server, started once."""
    if stack.endpoints.ray_address is None:
        say("starting ray")
    return str(stack.start({"ray"}).ray_address)
