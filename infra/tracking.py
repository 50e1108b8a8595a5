"""MLflow: an experiment per project, a run per iteration, a child run per stage, one registered model with aliases.

Runs and versions are found by tags before they are made (lineage, iteration, fingerprint), so that saying the same
thing twice changes nothing and everything can be reconciled from the records and manifests. Weights never travel
through the server: a version points at its artifact.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from infra.artifacts import Artifact, Manifest
from infra.errors import InputError, ServiceError

PARAM_LIMIT = 500
BATCH = 900
Inputs = Mapping[str, Artifact | tuple[Artifact, ...]]
Item = TypeVar("Item")


class Tracker:
    """The tracking server at `uri`, for one project (experiment and registered model share its name)."""

    def __init__(self, uri: str, project: str) -> None:
        if uri.startswith("http"):
            check_server(uri)
        mlflow.set_tracking_uri(uri)  # create_external_model below takes it from there
        self.uri, self.project = uri, project
        self.client = MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(project)
        self.experiment = found.experiment_id if found else self.client.create_experiment(project)

    def iteration(self, lineage: str, number: int, params: Mapping[str, Any]) -> str:
        """Id of the run of one iteration, made when it is not there yet."""
        tags = {"ratchet.lineage": lineage, "ratchet.iteration": str(number)}
        return self._find(tags) or self._create(f"iteration {number}", tags, params)

    def finish(self, run: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Close an iteration's run with its verdict."""
        self.log(run, metrics)
        for key, value in tags.items():
            self.client.set_tag(run, key, value)
        self.client.set_terminated(run, "FINISHED")

    def log(self, run: str, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics of one step."""
        now = int(time.time() * 1000)
        metrics = [Metric(metric_name(key), float(value), now, step) for key, value in values.items()]
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run, metrics=metrics[start : start + BATCH])

    def run_url(self, run: str) -> str:
        return f"{self.uri}/#/experiments/{self.experiment}/runs/{run}"

    def model_url(self, version: int) -> str:
        return f"{self.uri}/#/models/{self.project}/versions/{version}"

    def _find(self, tags: Mapping[str, str]) -> str | None:
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs = self.client.search_runs([self.experiment], query, max_results=1)
        return runs[0].info.run_id if runs else None

    def _create(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        run = self.client.create_run(self.experiment, tags=dict(tags), run_name=name).info.run_id
        entries = [Param(key, str(value)[:PARAM_LIMIT]) for key, value in flatten(params).items()]
        for start in range(0, len(entries), 100):
            self.client.log_batch(run, params=entries[start : start + 100])
        return run


@dataclass
class StageRun:
    """One stage's child run: config, dataset inputs, curves while it runs, final metrics."""

    tracker: Tracker
    run: str
    artifact: Artifact
    last_step: int
    closed: bool

    @staticmethod
    def open(tracker: Tracker, parent: str, label: str, artifact: Artifact, inputs: Inputs) -> "StageRun":
        """Find the run of this artifact under `parent`, or make it."""
        tags = {"mlflow.parentRunId": parent, "ratchet.fingerprint": artifact.fingerprint, "ratchet.label": label}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = tracker.client.search_runs([tracker.experiment], query, max_results=1)
        if found:
            steps = [int(value) for key, value in found[0].data.metrics.items() if key == "last_step"]
            closed = found[0].info.status == "FINISHED"
            return StageRun(tracker, found[0].info.run_id, artifact, steps[0] if steps else -1, closed)
        run = tracker._create(label, tags | {"ratchet.stage": artifact.stage, "ratchet.uri": artifact.uri}, {})
        log_inputs(tracker.client, run, inputs)
        return StageRun(tracker, run, artifact, -1, False)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One point of the curves; a step that an earlier follower logged is not logged twice."""
        if step > self.last_step:
            self.tracker.log(self.run, {**values, "last_step": step}, step)
            self.last_step = step

    def made(self) -> None:
        """Close with the manifest's metrics, counts and settings."""
        manifest = self.artifact.manifest()
        params = [Param(k, str(v)[:PARAM_LIMIT]) for k, v in flatten(manifest.recipe).items()]
        for start in range(0, len(params), 100):
            self.tracker.client.log_batch(self.run, params=params[start : start + 100])
        counts = {f"rows/{name}": float(n) for name, n in manifest.counts.items()}
        self.tracker.log(self.run, {**manifest.metrics, **counts, "wall_s": manifest.wall_s}, max(self.last_step, 0))
        self.tracker.client.log_batch(self.run, tags=[RunTag("ratchet.result", json.dumps(manifest.result)[:4000])])
        self.tracker.client.set_terminated(self.run, "FINISHED")
        self.closed = True

    def cached(self) -> None:
        """The artifact was there: close the run unless an earlier one did."""
        if not self.closed:
            self.made()

    def failed(self, message: str) -> None:
        self.tracker.client.set_tag(self.run, "ratchet.error", message[:4000])
        self.tracker.client.set_terminated(self.run, "FAILED")


class Registry:
    """The project's registered model. Aliases: generator, candidate, previous, reward."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.client, self.name = tracker, tracker.client, tracker.project
        try:
            self.client.get_registered_model(self.name)
        except MlflowException:
            self.client.create_registered_model(self.name, description="Made by the weak-to-strong alignment loop.")

    def version_of(self, artifact: Artifact) -> int | None:
        """The version whose source is this artifact."""
        query = f"name = '{self.name}' and tags.fingerprint = '{artifact.fingerprint}'"
        found = self.client.search_model_versions(query)
        return min((int(version.version) for version in found), default=None)

    def register(self, artifact: Artifact, tags: Mapping[str, str], description: str) -> int:
        """The artifact's version, made when it has none; its tags and description are brought up to date."""
        version = self.version_of(artifact)
        tags = {"uri": artifact.uri, "fingerprint": artifact.fingerprint, "stage": artifact.stage, **tags}
        if version is None:
            # A version whose source is a path is refused by the server; an external logged model is not (its own
            # artifact stays where it is).
            model = mlflow.create_external_model(
                name=f"{artifact.stage}-{artifact.fingerprint[:12]}", tags=tags, experiment_id=self.tracker.experiment
            )
            made = self.client.create_model_version(
                self.name, f"models:/{model.model_id}", tags=tags, description=description, model_id=model.model_id
            )
            return int(made.version)
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name, str(version), key, value)
        self.client.update_model_version(self.name, str(version), description)
        return version

    def set_alias(self, alias: str, version: int) -> None:
        if self.aliases().get(alias) != version:
            self.client.set_registered_model_alias(self.name, alias, str(version))

    def aliases(self) -> dict[str, int]:
        found = self.client.get_registered_model(self.name).aliases
        return {alias: int(version) for alias, version in found.items()}

    def drop_alias(self, alias: str) -> None:
        """An alias that is not there is no error."""
        if alias in self.aliases():
            self.client.delete_registered_model_alias(self.name, alias)

    def versions(self) -> list[dict[str, Any]]:
        """Every version: name, version, aliases, uri, tags; the newest first."""
        return versions_of(self.client, self.name)


def registered_versions(uri: str, name: str | None = None) -> list[dict[str, Any]]:
    """Rows of every registered model of the server at `uri`, or of the one called `name`: by name, the newest first."""
    check_server(uri)
    client = MlflowClient(tracking_uri=uri)
    wanted = f"name = '{name}'" if name else None
    models = read_pages(lambda token: client.search_registered_models(wanted, page_token=token))
    return [row for model in sorted(model.name for model in models) for row in versions_of(client, model)]


def versions_of(client: MlflowClient, name: str) -> list[dict[str, Any]]:
    """One registered model's versions, the newest first. (Search results do not carry aliases.)"""
    by_version: dict[int, list[str]] = {}
    for alias, version in client.get_registered_model(name).aliases.items():
        by_version.setdefault(int(version), []).append(alias)
    found = read_pages(lambda token: client.search_model_versions(f"name = '{name}'", page_token=token))
    rows = [as_row(item, sorted(by_version.get(int(item.version), []))) for item in found]
    return sorted(rows, key=lambda row: -row["version"])


def read_pages(search: Callable[[str | None], PagedList[Item]]) -> list[Item]:
    """Everything that a search finds, page by page."""
    page = search(None)
    found = [*page]
    while page.token:
        page = search(page.token)
        found += page
    return found


def as_row(version: ModelVersion, aliases: list[str]) -> dict[str, Any]:
    tags = dict(version.tags)
    return {
        "name": version.name,
        "version": int(version.version),
        "aliases": aliases,
        "uri": tags.get("uri", ""),
        "tags": tags,
    }


def resolve_reference(uri: str, reference: str) -> dict[str, str]:
    """Tags of the version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names.

    Raises InputError when there is no such model, alias or version.
    """
    check_server(uri)
    client = MlflowClient(tracking_uri=uri)
    rest = reference.removeprefix("models:/")
    try:
        if "@" in rest:
            version = client.get_model_version_by_alias(*rest.split("@", 1))
        else:
            version = client.get_model_version(*rest.rsplit("/", 1))
    except (MlflowException, TypeError) as error:
        raise InputError(
            f"{reference!r} is not in the registry at {uri}: {str(error).splitlines()[0]}",
            "`ratchet models` lists what is there; write models:/NAME@ALIAS or models:/NAME/VERSION",
        ) from error
    return dict(version.tags)


def check_server(uri: str) -> None:
    """Raise ServiceError when no MLflow server answers at `uri`."""
    try:
        httpx.get(f"{uri}/health", timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        raise ServiceError(
            f"no MLflow server answers at {uri}: {error}", "start it (`ratchet up`) or correct MLFLOW_TRACKING_URI"
        ) from error


def log_inputs(client: MlflowClient, run: str, inputs: Inputs) -> None:
    """Input datasets and models, by fingerprint, so that MLflow shows what a run was made from."""
    items = [
        (name, item)
        for name, value in inputs.items()
        for item in (value if isinstance(value, tuple) else (value,))
    ]  # fmt: skip
    datasets = [
        DatasetInput(
            Dataset(f"{item.stage}", item.fingerprint[:32], "local", json.dumps({"uri": item.uri})),
            [InputTag("mlflow.data.context", name)],
        )
        for name, item in items
    ]
    if datasets:
        client.log_inputs(run, datasets)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names, which is how MLflow compares runs."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def metric_name(name: str) -> str:
    """MLflow takes letters, digits, and a few signs only."""
    return "".join(char if char.isalnum() or char in "_-. /" else "_" for char in name)


def manifest_summary(manifest: Manifest) -> str:
    """A line for descriptions: the stage and the metrics that matter."""
    metrics = ", ".join(f"{key} {value:.4g}" for key, value in sorted(manifest.metrics.items())[:8])
    return f"{manifest.label}: {metrics}" if metrics else manifest.label
