"""Runs the flywheel for a command or a deployment: sources, lineage, book, flow."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.references import resolve, with_weights
from deployments.session import Session
from flows.bookkeeping import BOOK, Book, lineage_of
from flows.flywheel import flywheel
from flows.foundations import Source
from flows.runner import Site
from flows.steps import make_step
from infra.artifacts import Artifact
from infra.errors import InputError
from infra.records import Records
from infra.services import cores
from infra.settings import Settings
from infra.storage import Storage
from infra.tracking import Tracker
from tasks.configs.plan import Plan

DRAIN_S = 5.0


@dataclass(frozen=True)
class Sources:
    """Where the first generator and the base come from; None where the plan's own pretraining makes them."""

    generator: Source | None
    base: Source | None

    def fingerprints(self, store: str) -> tuple[str, ...]:
        """Known before anything is imported: an import's address follows from its content."""
        found = []
        for source in (self.generator, self.base):
            if isinstance(source, Artifact):
                found.append(source.fingerprint)
            elif source is not None:
                found.append(make_step("import", source, store, {}).artifact.fingerprint)
        return tuple(found)


def resolve_sources(plan: Plan, settings: Settings, tracking_uri: str | None) -> Sources:
    """The plan's two models; one import serves both where they are the same. Raises InputError."""
    if plan.pretraining is not None:
        return Sources(None, None)
    cache = settings.workspace / "cache"
    generator = resolve(plan.generator, tracking_uri, cache)
    base = generator if plan.base == plan.generator else resolve(plan.base, tracking_uri, cache)
    return Sources(generator, with_weights("base", plan.base, base))


def project_of(plan: Plan, settings: Settings) -> str:
    return settings.project or plan.preset


def turn_wheel(plan: Plan, session: Session, iterations: int | None, command: Sequence[str]) -> Book:
    """Run the wheel to `iterations` in all (None: one more than the lineage has); returns its book."""
    settings = session.settings
    sources = resolve_sources(plan, settings, session.mlflow_tracking_uri)
    project = project_of(plan, settings)
    tracker = Tracker(session.mlflow_tracking_uri, project)
    site = Site(settings.store, settings.workspace, cores(), session.cluster)
    lineage = lineage_of(plan, sources.fingerprints(settings.store))
    if iterations is None:
        iterations = 1 + len(Records(Storage.open(settings.store), project, lineage).all("verdict"))
        command = [*command, "--iterations", str(iterations)]
    book = Book(plan, project, lineage, site, tracker, shlex.join(command))
    token = BOOK.set(book)
    try:
        with temporary_settings({PREFECT_API_URL: session.prefect_api_url}):
            run = flywheel.with_options(flow_run_name=f"{project} · {time.strftime('%Y-%m-%d %H:%M')}")
            run(plan, sources.generator, sources.base, iterations)
    finally:
        BOOK.reset(token)
        send_what_is_left()
    return book


def send_what_is_left() -> None:
    """Wait for the logs and events that Prefect's client holds: with the server gone it would try for a minute."""
    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=DRAIN_S)


def check_iterations(value: int) -> int:
    if value < 1:
        raise InputError(f"--iterations {value}: at least one turn is needed", "give 1 or more")
    return value
