"""Runs a chain of steps as a Ray job: look up, submit or attach, follow, and tell Prefect, MLflow and the terminal."""

import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from flows.events import Event, publish
from flows.steps import Step, job_id
from infra import errors
from infra.allocation import keeps_memory
from infra.jobs import Finished, JobRequest, Line, Structured, connect, follow, stop, submit
from infra.manifest import MANIFEST
from infra.storage import Storage
from infra.tracking import StageRun, Tracker
from tasks.configs.training import TrainingConfig

PROGRESS_EVERY_S = 1.0
LAST_LINES = 5


@dataclass(frozen=True)
class Site:
    """Where jobs run. `cluster` returns the Ray job server's URL, and starts an embedded one at the first call."""

    store: str
    workspace: Path
    cores: int
    """Cores that a job asking for all of them (`cpus: 0`) reserves."""
    cluster: Callable[[], str]


class JobRunner:
    """One iteration's jobs. `timeline` collects what each job took, for the report's split of the wall time."""

    dry = False

    def __init__(self, site: Site, tracker: Tracker, parent_run: str) -> None:
        self.site = site
        self.store = site.store
        self.tracker = tracker
        self.parent_run = parent_run
        self.timeline: list[dict[str, Any]] = []
        self.outcomes: list[dict[str, Any]] = []
        self._live: dict[str, Any] = {}
        self._lock = threading.Lock()

    def run(self, job: str, steps: list[Step]) -> None:
        """Make what is missing of `steps`. Raises StageFailed, EmptyDataset, ClusterLost or StageCancelled."""
        todo = []
        for step in steps:
            (self._cached if self._is_ready(step) else todo.append)(step)
        if not todo:
            return
        started = time.monotonic()
        for step in todo:
            publish(Event("queued", step.label, {"job": job}))
        # Training in processes of its own must not wait for what the driver of other stages holds.
        for _, part in groupby(todo, key=lambda step: step.config.spread):
            self._submit(job, [*part])
        self.timeline.append({"job": job, "seconds": time.monotonic() - started, "steps": [s.label for s in todo]})

    def _submit(self, job: str, steps: list[Step]) -> None:
        client = connect(self.site.cluster())
        submission = submit(client, self._request(job, steps))
        with self._lock:
            self._live[submission] = client
        try:
            JobFollower(job, steps, self).follow(client, submission)
        except BaseException:
            self._stop(submission)
            raise
        finally:
            with self._lock:
                self._live.pop(submission, None)

    def open_run(self, step: Step) -> StageRun:
        """The step's run in MLflow, under this iteration's."""
        return StageRun.open(self.tracker, self.parent_run, step.label, step.artifact, step.inputs)

    def stop_all(self) -> None:
        """Stop every job that this runner still follows."""
        for submission in list(self._live):
            self._stop(submission)

    def _stop(self, submission: str) -> None:
        client = self._live.get(submission)
        if client is not None:
            with suppress(errors.ServiceError):  # a lost cluster runs nothing any more: the watchdog saw to that
                stop(client, submission)

    def _is_ready(self, step: Step) -> bool:
        bad = step.artifact.check()
        if bad == [(MANIFEST, "missing")]:
            return False
        for name, reason in bad:
            publish(Event("line", step.label, {"text": f"{step.artifact.uri}/{name}: {reason}; making it again"}))
        if bad:
            step.artifact.quarantine("; ".join(f"{name}: {reason}" for name, reason in bad))
        return not bad

    def _cached(self, step: Step) -> None:
        self.open_run(step).cached()
        publish(Event("cached", step.label, {"artifact": step.artifact.uri, "stage": step.artifact.stage}))
        self.note(step, "cached", 0.0)

    def note(self, step: Step, state: str, seconds: float) -> None:
        entry = {"name": step.label, "state": state, "seconds": round(seconds, 2), "artifact": step.artifact.uri}
        self.outcomes.append(entry)

    def _request(self, job: str, steps: list[Step]) -> JobRequest:
        name = job_id(self.store, steps)
        asked = max(step.config.resources.cpus for step in steps)
        # Engines in actors and training processes do the work of their stages: the driver must leave them the cores.
        away = [step.config.resources.engines.count > 0 or step.config.spread for step in steps]
        cpus = 0 if any(step.config.spread for step in steps) else asked or (0 if any(away) else self.site.cores)
        threads = asked or (1 if all(away) else self.site.cores)
        spec = {
            "workspace": str(self.site.workspace.absolute()),
            "threads": threads,
            "steps": [step.as_json() for step in steps],
        }
        key = f"jobs/{name}/spec.json"
        Storage.open(self.store).put(key, json.dumps(spec, indent=1).encode())
        # exec: without it the shell between Ray and the driver would survive a kill of either.
        return JobRequest(
            base_id=name,
            entrypoint=f"exec {shlex.join([sys.executable, '-P', '-m', 'tasks.job', f'{self.store}#{key}'])}",
            cpus=cpus,
            gpus=max(0 if step.config.spread else step.config.resources.gpus for step in steps),
            env=environment(steps, threads, self.site.workspace),
            metadata={"job": job, "owner": f"pid {os.getpid()}"},
        )


def environment(steps: list[Step], threads: int, workspace: Path) -> dict[str, str]:
    """What libraries read when the job's processes start."""
    trains = any(isinstance(step.config, TrainingConfig) for step in steps)
    return {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "RATCHET_WORKSPACE": str(workspace.absolute()),
        **(keeps_memory() if trains else {}),
    }


class JobFollower:
    """Forwards one job's events to the open stage run, the Prefect task run and the listeners."""

    def __init__(self, job: str, steps: list[Step], owner: JobRunner) -> None:
        self.job = job
        self.steps = {step.label: step for step in steps}
        self.owner = owner
        self.run: StageRun | None = None
        self.failure: dict[str, Any] | None = None
        self.label = steps[0].label
        self.last_lines: list[str] = []
        self.progress = PrefectProgress()

    def follow(self, client: Any, submission: str) -> None:
        """Until the job ends; raises what the driver reported, or StageFailed when it died without a word."""
        for event in follow(client, submission):
            if isinstance(event, Structured):
                self._structured(dict(event.values))
            elif isinstance(event, Line):
                self.last_lines = [*self.last_lines[1 - LAST_LINES :], event.text]
                publish(Event("line", self.label, {"text": event.text}))
            elif isinstance(event, Finished):
                self._finished(event)

    def _structured(self, values: dict[str, Any]) -> None:
        kind, label = values.pop("event"), values.pop("label", self.label)
        self.label = label
        if kind in ("started", "cached"):
            step = self.steps[label]
            self.run = self.owner.open_run(step)
            values |= {"artifact": step.artifact.uri, "stage": step.artifact.stage}
            if kind == "cached":
                self.run.cached()
                self.owner.note(step, "cached", 0.0)
        elif kind == "made" and self.run:
            values |= {"artifact": self.steps[label].artifact.uri, "stage": self.steps[label].artifact.stage}
            self.run.made()
            self.owner.note(self.steps[label], "made", values["seconds"])
        elif kind == "metrics" and self.run:
            self.run.metrics(values["step"], values["values"])
        elif kind == "failed":
            self.failure = values
            if self.run:
                self.run.failed(values["message"])
        elif kind == "progress":
            self.progress.update(label, values)
        log(kind, label, values)
        publish(Event(kind, label, values))

    def _finished(self, event: Finished) -> None:
        if event.status == "STOPPED":
            raise errors.StageCancelled(f"{self.label}: the job was stopped", "the same command goes on from here")
        if self.failure:
            raise failure_error(self.label, self.failure)
        missing = [step.label for step in self.steps.values() if not step.artifact.exists()]
        if event.status != "SUCCEEDED" or missing:
            raise errors.StageFailed(
                f"{missing[0] if missing else self.label}: the job's driver ended with {event.status}"
                f" (exit code {event.exit_code}): {' | '.join(self.last_lines) or event.message}",
                "the same command goes on from the last finished shard or checkpoint",
                missing[0] if missing else self.label,
            )


class PrefectProgress:
    """A progress artifact in the Prefect UI, at most one update a second."""

    def __init__(self) -> None:
        self.artifact: Any = None
        self.label = ""
        self.updated = 0.0

    def update(self, label: str, values: dict[str, Any]) -> None:
        now = time.monotonic()
        percent = 0.0 if values["total"] is None else 100.0 * values["done"] / max(values["total"], 1e-9)
        if label != self.label:
            self.label, self.artifact = label, create_progress_artifact(percent, description=label)
        elif now - self.updated >= PROGRESS_EVERY_S or percent >= 100:
            update_progress_artifact(self.artifact, percent)
        else:
            return
        self.updated = now


def log(kind: str, label: str, values: dict[str, Any]) -> None:
    """Stage transitions go to the task run's log in Prefect; progress and curves have better places."""
    if kind in ("progress", "metrics"):
        return
    with suppress(MissingContextError):
        get_run_logger().info("%s: %s %s", label, kind, values.get("text") or values.get("message") or "")


def failure_error(label: str, failure: dict[str, Any]) -> errors.RatchetError:
    """The driver's error, as the same class where it is one of ours."""
    kind = getattr(errors, failure["type"], errors.StageFailed)
    if issubclass(kind, errors.StageFailed):
        return kind(f"{label}: {failure['message']}", failure["remedy"], label)
    return kind(f"{label}: {failure['message']}", failure["remedy"])
