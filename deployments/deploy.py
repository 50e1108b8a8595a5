"""Iterations that Prefect starts: the flow that a worker runs, and its registration with a schedule.

Each run appends one iteration to the lineage of its parameters; of two runs at once, the second waits or is cancelled.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import httpx
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.logging import get_run_logger
from prefect.schedules import Cron, Schedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker
from pydantic import Field

from deployments.plans import DEFAULT_PRESET, load_plan
from deployments.preflight import preflight
from deployments.session import session
from deployments.summary import as_document
from deployments.wheel import turn_wheel
from infra.errors import InputError, ServiceError
from infra.settings import Settings

POOL = "ratchet"
Preset = Literal["smollm", "smollm_full", "tiny", "h100_node", "nemotron_4_340b", "nemotron_4_15b"]
"""The names in `PRESETS`, as a form can offer them."""


@flow(name="append-iteration", flow_run_name="{preset}: one more iteration")
def append_iteration(
    preset: Preset = DEFAULT_PRESET,
    changes: tuple[str, ...] = (),
    iterations: Annotated[int | None, Field(ge=1)] = None,
) -> dict[str, Any]:
    """Turn the wheel once more, on the servers that the environment names or the workspace's own.

    Args:
        preset: The plan to start from.
        changes: Settings to change, such as general_sft.epochs=3; values are YAML.
        iterations: Turns in all, those made before included; nothing for one more than there are.
    """
    plan = load_plan(preset, None, changes)
    command = ["ratchet", "run", "--preset", preset, *(word for text in changes for word in ("--set", text))]
    settings = Settings.from_env()
    preflight(plan, settings)
    with session(settings, get_run_logger().info) as servers:
        return as_document(turn_wheel(plan, servers, iterations, command))


@dataclass(frozen=True)
class Deployment:
    """What is registered: when it runs, with which parameters, and what happens where one runs already."""

    name: str
    preset: str
    changes: tuple[str, ...]
    cron: str | None
    timezone: str
    collision: str
    """"enqueue" or "cancel-new"."""

    def schedule(self) -> Schedule | None:
        """Raises InputError for times that are none."""
        if self.cron is None:
            return None
        try:
            ZoneInfo(self.timezone)
            CronSchedule(cron=self.cron, timezone=self.timezone)  # Cron itself takes anything
            return Cron(self.cron, timezone=self.timezone)
        except ZoneInfoNotFoundError as error:
            raise InputError(f"no such --timezone: {self.timezone!r}", "use a name such as Europe/Berlin") from error
        except ValueError as error:
            raise InputError(
                f"--cron {self.cron!r} is no schedule", 'write minute, hour, day, month, weekday: "0 2 * * *"'
            ) from error


def as_changes(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A config file's nested settings as `a.b=v`, which a form can show."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from as_changes(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value, ensure_ascii=False, default=str)}"


def environment(settings: Settings) -> dict[str, str]:
    """What a worker's process needs to find this workspace and its servers; secrets stay in the worker's own."""
    values = {
        "RATCHET_WORKSPACE": str(settings.workspace),
        "RATCHET_STORE": settings.store,
        "RATCHET_PROJECT": settings.project,
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "RAY_ADDRESS": settings.ray_address,
    }
    return {name: value for name, value in values.items() if value is not None}


def register(deployment: Deployment, settings: Settings, api_url: str) -> dict[str, Any]:
    """Create or replace the deployment; returns what `ratchet deploy --json` prints.

    Raises ServiceError when the server does not answer.
    """
    schedule = deployment.schedule()
    strategy = ConcurrencyLimitStrategy(deployment.collision.replace("-", "_").upper())
    parameters = {"preset": deployment.preset, "changes": list(deployment.changes)}
    check_server(api_url)
    with temporary_settings({PREFECT_API_URL: api_url}):
        with get_client(sync_client=True) as client:
            ensure_pool(client)
        runner: Any = append_iteration.to_deployment(
            deployment.name,
            schedule=schedule,
            concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=strategy),
            parameters=parameters,
            description=append_iteration.__doc__,
            tags=["ratchet", deployment.preset],
            work_pool_name=POOL,
            job_variables={"env": environment(settings)},
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        identity = runner.apply()
    return {
        "deployment": f"{append_iteration.name}/{deployment.name}",
        "id": str(identity),
        "url": f"{api_url.removesuffix('/api')}/deployments/deployment/{identity}",
        "pool": POOL,
        "parameters": parameters,
        "cron": deployment.cron,
        "timezone": deployment.timezone if deployment.cron else None,
        "collision": deployment.collision,
        "worker": worker_command(api_url),
    }


def worker_command(api_url: str) -> str:
    return f"PREFECT_API_URL={api_url} prefect worker start --pool {POOL}"


def check_server(api_url: str) -> None:
    try:
        httpx.get(f"{api_url}/health", timeout=10, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise ServiceError(
            f"no Prefect server answers at {api_url}: {error}", "start it (`ratchet up`) or correct PREFECT_API_URL"
        ) from error


def ensure_pool(client: SyncPrefectClient) -> None:
    """The pool whose workers run flows as processes. Raises InputError where its name belongs to another kind."""
    try:
        found = client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        with suppress(ObjectAlreadyExists):  # someone else was faster
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
        return
    if found.type != "process":
        raise InputError(f"the work pool {POOL!r} is of type {found.type}", "delete it: a process pool is needed")
