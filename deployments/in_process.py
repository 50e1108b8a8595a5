"""Models and stages in this very process, for commands that need no cluster: no Ray, no Prefect, the same artifacts."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from deployments.references import resolve
from deployments.session import Status, registry_server
from flows.events import Event, publish
from flows.steps import Inputs, make_step
from infra.artifacts import Artifact
from infra.services import cores
from infra.settings import Settings
from infra.storage import Storage
from tasks.configs.base import StageConfig
from tasks.configs.import_model import ImportModelConfig
from tasks.job import run_step

Source = Artifact | ImportModelConfig


def registry(references: Sequence[str], settings: Settings, say: Status) -> AbstractContextManager[str | None]:
    """MLflow's address for the block; None, and nothing is started, where no reference is a `models:/` one."""
    registered = any(reference.startswith("models:/") for reference in references)
    return registry_server(settings, say) if registered else nullcontext()


def resolve_all(references: Sequence[str], settings: Settings, say: Status) -> list[Source]:
    """What the references name; a server that this takes has ended when the call returns."""
    with registry(references, settings, say) as uri:
        return [resolve(reference, uri, settings.workspace / "cache") for reference in references]


def run_here(label: str, config: StageConfig, settings: Settings, inputs: Inputs) -> Artifact:
    """Make a stage's artifact, or find it; what happens is published as of any other step."""
    step = make_step(label, config, settings.store, inputs)
    torch.set_num_threads(config.resources.cpus or cores())

    def tell(values: dict[str, Any]) -> None:
        publish(Event(values["event"], label, {name: value for name, value in values.items() if name != "event"}))

    run_step(step.as_json(), Storage.open(settings.store), settings.workspace, tell)
    return step.artifact


def as_artifact(source: Source, settings: Settings) -> Artifact:
    """The checkpoint in the store; a model from outside is imported first, once."""
    if isinstance(source, Artifact):
        return source
    return run_here(f"import {Path(source.source).name}", source, settings, {})


def model_folder(source: Source, settings: Settings) -> Path:
    """A folder that holds the model: a Hugging Face folder is used where it lies, a GGUF file is imported first."""
    if isinstance(source, ImportModelConfig) and source.format == "hf":
        return Path(source.source)
    return as_artifact(source, settings).folder()
