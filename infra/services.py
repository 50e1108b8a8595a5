"""The local services: how each is started, where it listens, how one sees that it is ready.

All listen on 127.0.0.1 only, keep their data in <workspace>/db and their output in <workspace>/logs, and send no usage
statistics.
"""

import hashlib
import os
import shutil
import sqlite3
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from infra.errors import InputError, ServiceError
from infra.ports import free_ports, holder, is_free
from infra.settings import OPENAI_KEYS, SERVE_TOKEN

HOST = "127.0.0.1"
ORDER = ("prefect", "mlflow", "ray")
"""Started side by side, stopped in reverse."""
PREFERRED = {"prefect": 4200, "mlflow": 5000, "ray": 8265}
OBJECT_STORE_BYTES = 200_000_000
"""Ray's shared memory. Jobs exchange files, not objects."""
NOT_INHERITED = ("PREFECT_", "MLFLOW_", "_MLFLOW_", "RAY_", SERVE_TOKEN)
"""Variables of the user's other servers, which would mislead ours, and a secret that is none of their business."""
MARK = "RATCHET_STACK"
"""Variable that every process of a stack carries, `<stack id>/<service>`, so that none can be overlooked."""
SOCKETS = Path("/tmp")
"""Short, for Ray adds 65 characters to its folder's name, and a socket's path may have 107."""


@dataclass(frozen=True)
class Service:
    """One server process (and its children) on this machine."""

    name: str
    command: list[str]
    folder: Path
    """Working directory."""
    log: Path
    url: str
    """For people and clients."""
    health: str
    """Answers 200 once the service is ready."""
    env: dict[str, str] = field(default_factory=dict)
    stop_s: float = 10.0
    """Seconds from TERM to KILL."""


def stack_id(workspace: Path) -> str:
    """Names a workspace's processes and its folder under /tmp."""
    return hashlib.sha256(str(workspace.resolve()).encode()).hexdigest()[:12]


def environment(workspace: Path, service: Service) -> dict[str, str]:
    """The whole environment of a service's process. Keys of hosted models reach Ray alone, whose jobs inherit them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    for name in OPENAI_KEYS if service.name != "ray" else ():
        kept.pop(name, None)
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # a server that compiles its libraries at each start takes twice as long
    return {
        **kept,
        "DO_NOT_TRACK": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        MARK: f"{stack_id(workspace)}/{service.name}",
        **service.env,
    }


def make_service(name: str, workspace: Path, port: int) -> Service:
    """The service `name` on `port`; its folders are made."""
    makers = {"prefect": prefect_service, "mlflow": mlflow_service, "ray": ray_service}
    if name not in makers:
        raise InputError(f"no such service: {name!r}", f"choose from {', '.join(ORDER)}")
    make_folders(workspace)
    return makers[name](workspace, port)


def make_folders(workspace: Path) -> None:
    """Raises ServiceError when the workspace cannot be written."""
    try:
        for folder in ("db", "logs"):
            (workspace / folder).mkdir(parents=True, exist_ok=True)
            probe = workspace / folder / f".writable-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
    except OSError as error:
        raise ServiceError(
            f"the workspace {workspace} cannot be written: {error.strerror} ({error.filename})",
            "free space or rights there, or choose another with --workspace",
        ) from error


def prefect_service(workspace: Path, port: int) -> Service:
    check_database(workspace / "db" / "prefect.db")
    home = workspace / "db" / "prefect"
    return Service(
        name="prefect",
        command=[sys.executable, "-P", "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)],
        folder=workspace / "db",
        log=workspace / "logs" / "prefect.log",
        url=f"http://{HOST}:{port}/api",
        health=f"http://{HOST}:{port}/api/health",
        env={
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///prefect.db",  # in the working directory
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_API_URL": "/api",
            "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),
        },
    )


def mlflow_service(workspace: Path, port: int) -> Service:
    check_database(workspace / "db" / "mlflow.db")
    return Service(
        name="mlflow",
        command=[sys.executable, "-P", "-m", "infra.mlflow_server", str(port)],
        folder=workspace / "db",
        log=workspace / "logs" / "mlflow.log",
        url=f"http://{HOST}:{port}",
        health=f"http://{HOST}:{port}/health",
        env={
            # What `mlflow server` tells its own child.
            "_MLFLOW_SERVER_FILE_STORE": "sqlite:///mlflow.db",  # in the working directory
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(workspace / "db" / "mlflow-artifacts"),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
    )


def ray_service(workspace: Path, port: int) -> Service:
    gcs, agent, agent_grpc, runtime_env, metrics, objects, node, client = free_ports(8)
    arguments = {
        "--port": gcs,
        "--dashboard-host": HOST,
        "--dashboard-port": port,
        "--dashboard-agent-listen-port": agent,
        "--dashboard-agent-grpc-port": agent_grpc,
        "--runtime-env-agent-port": runtime_env,
        "--metrics-export-port": metrics,
        "--object-manager-port": objects,
        "--node-manager-port": node,
        "--ray-client-server-port": client,
        "--min-worker-port": 0,  # any port: Ray's fixed range would clash with a second cluster on this machine
        "--max-worker-port": 0,
        "--num-cpus": cores(),
        "--object-store-memory": OBJECT_STORE_BYTES,
        "--temp-dir": ray_folder(workspace),
        "--include-log-monitor": "false",
    }
    flags = ["--head", "--block", "--no-monitor", "--disable-usage-stats"]
    return Service(
        name="ray",
        command=[
            *(sys.executable, "-P", "-m", "ray.scripts.scripts", "start", *flags),
            *(f"{name}={value}" for name, value in arguments.items()),
        ],
        folder=workspace / "db",
        log=workspace / "logs" / "ray.log",
        url=f"http://{HOST}:{port}",
        health=f"http://{HOST}:{port}/api/version",
        env={
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
            # Off, Ray takes 127.0.0.1 for the node's address, so it listens nowhere else and networks may change.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # A job may wait for hours behind a training stage; Ray's own limit is 15 minutes.
            "RAY_JOB_START_TIMEOUT_SECONDS": str(7 * 24 * 3600),
            "SPT_NOENV": "1",  # lets Ray rename its processes without wiping MARK out of their environment
        },
        stop_s=2.0,
    )


def ray_folder(workspace: Path) -> Path:
    """Ray's own logs and sockets: a short path that only this user may enter; earlier sessions but the last go."""
    outer = SOCKETS / f"ratchet-{os.getuid()}-{stack_id(workspace)}"
    folder = outer / "r"  # Ray opens its own folder to everyone
    try:
        outer.mkdir(mode=0o700, exist_ok=True)
        if outer.is_symlink() or outer.stat().st_uid != os.getuid():
            raise ServiceError(f"Ray's folder {outer} belongs to someone else", "remove it")
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ServiceError(f"cannot make Ray's folder {folder}: {error.strerror}", "free some space there") from error
    sessions = sorted(path for path in folder.glob("session_2*") if path.is_dir())
    for old in sessions[:-1]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def check_database(path: Path) -> None:
    """Raise ServiceError when the file is there and no SQLite database; the server would only die of it."""
    if not path.exists():
        return
    try:
        with sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise ServiceError(f"cannot open the database {path}: {error}", "see to the file's rights") from error
    except sqlite3.DatabaseError as error:
        remedy = f"move it away (mv {path} {path}.bad); datasets, checkpoints and records lie in the store and are safe"
        raise ServiceError(f"the database {path} is damaged: {error}", remedy) from error


def check_port(name: str, port: int) -> None:
    """Raise ServiceError naming who holds the port."""
    if not is_free(port):
        owner = holder(port)
        raise ServiceError(
            f"port {port} for {name} is in use{f' by {owner}' if owner else ''}",
            f"stop it, or choose another port with --{name}-port",
        )


def cores() -> int:
    """Cores that this process may use: what Ray gets to hand out."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, cgroup_cores()))


def cgroup_cores(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """A container's limit, as whole cores; very many where there is none."""
    try:
        quota, period = path.read_text().split()[:2]
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 16
