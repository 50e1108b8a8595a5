"""Nothing may use a store while it is cleaned up: no job, no flow run, no writer, known or not."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType

from deployments.modified import modified
from infra.errors import ServiceError, StoreError
from infra.jobs import connect
from infra.settings import Settings
from infra.stack import Stack
from infra.storage import Storage
from infra.storage_folder import FolderBackend

QUIET = timedelta(minutes=10)
WRITTEN_BY_WORK = ("artifacts", "attempts", "jobs", "records", "quarantine")
AT_WORK = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.PAUSED)
TIMEOUT_S = 10.0


def check_nothing_runs(settings: Settings) -> None:
    """Raises ServiceError while a job or flow run of the services in use is under way, or where they do not say."""
    running = Stack(settings.workspace).status().endpoints
    if address := settings.ray_address or running.ray_address:
        live = [job.submission_id for job in connect(address).jobs() if job.live]
        if live:
            raise ServiceError(
                f"{len(live)} jobs run at {address}: {', '.join(live[:3])}", "wait until they have ended"
            )
    if address := settings.prefect_api_url or running.prefect_api_url:
        names = flow_runs(address)
        if names:
            raise ServiceError(
                f"flow runs are under way at {address}: {', '.join(names[:3])}",
                "wait until they have ended; cancel in Prefect one that was killed",
            )


def flow_runs(address: str) -> list[str]:
    """Names of those under way; asks again while the server is busy."""
    under_way = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[*AT_WORK])))
    try:
        with SyncPrefectClient(api=address, httpx_settings={"timeout": TIMEOUT_S}) as client:
            return [run.name for run in client.read_flow_runs(flow_run_filter=under_way)]
    except (httpx.HTTPError, ValueError) as error:
        raise ServiceError(
            f"no Prefect server answers at {address}: {error}", "start it (`ratchet up`) or correct PREFECT_API_URL"
        ) from error


def written(store: Storage) -> dict[str, datetime]:
    """By key, when each file was last written; of a store in a folder its unfinished writes, too."""
    found = {key: changed for top in WRITTEN_BY_WORK for key, changed in modified(store, top).items()}
    top = store.local_path("artifacts")
    staging = top.with_name(FolderBackend.STAGING) if top else None
    for path in staging.iterdir() if staging and staging.is_dir() else ():
        try:
            found[path.name] = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
        except FileNotFoundError:  # it has just been put in its place
            continue
    return found


def check_quiet(store: Storage, seen: Mapping[str, datetime], now: datetime) -> None:
    """Raises StoreError where something was written a moment ago, whoever wrote it: another workspace, or cluster."""
    newest = max(seen, key=lambda key: seen[key], default=None)
    if newest is not None and seen[newest] > now - QUIET:
        wait = (seen[newest] + QUIET - now).total_seconds() / 60
        raise StoreError(
            f"something writes to {store.uri}: {newest} is from {seen[newest].astimezone():%H:%M:%S}",
            f"wait until nothing has been written for {QUIET.seconds // 60} minutes: {wait:.0f} more if all is still",
        )


def check_unchanged(store: Storage, seen: Mapping[str, datetime], folders: Sequence[str] = WRITTEN_BY_WORK) -> None:
    """Raises StoreError where something below these folders was written since `seen`."""
    new = [key for top in folders for key, changed in modified(store, top).items() if seen.get(key) != changed]
    if new:
        raise StoreError(f"something began to write to {store.uri}: {new[0]}", "try again when it is still")
