"""Models and stages in this very process, for commands that need no cluster: no Ray, no Prefect, the same artifacts."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from deployments.references import Source, resolve, with_weights
from deployments.session import Status, registry_server
from flows.events import Event, publish
from flows.steps import Inputs, make_step
from infra.artifacts import Artifact
from infra.errors import InputError
from infra.services import cores
from infra.settings import Settings
from infra.storage import Storage
from models.checkpoint import load_model
from models.engine import Engine
from tasks.configs.base import StageConfig
from tasks.configs.endpoint_model import EndpointModelConfig
from tasks.configs.import_model import ImportModelConfig
from tasks.job import run_step


def registry(references: Sequence[str], settings: Settings, say: Status) -> AbstractContextManager[str | None]:
    """MLflow's address for the block; None, and nothing is started, where no reference is a `models:/` one."""
    registered = any(reference.startswith("models:/") for reference in references)
    return registry_server(settings, say) if registered else nullcontext()


def resolve_all(references: Sequence[str], settings: Settings, say: Status, hosted: bool = False) -> list[Source]:
    """What the references name; a server that this takes has ended when the call returns.

    Raises InputError for a hosted model where `hosted` ones are of no use.
    """
    with registry(references, settings, say) as uri:
        sources = [resolve(reference, uri, settings.workspace / "cache") for reference in references]
    if hosted:
        return sources
    return [with_weights("MODEL", reference, source) for reference, source in zip(references, sources, strict=True)]


def run_here(label: str, config: StageConfig, settings: Settings, inputs: Inputs) -> Artifact:
    """Make a stage's artifact, or find it; what happens is published as of any other step."""
    step = make_step(label, config, settings.store, inputs)
    torch.set_num_threads(config.resources.cpus or cores())

    def tell(values: dict[str, Any]) -> None:
        publish(Event(values["event"], label, {name: value for name, value in values.items() if name != "event"}))

    run_step(step.as_json(), Storage.open(settings.store), settings.workspace, tell)
    return step.artifact


def as_artifact(source: Source, settings: Settings) -> Artifact:
    """The checkpoint in the store; a model from outside is imported first, once. A hosted one holds its address."""
    if isinstance(source, Artifact):
        return source
    if isinstance(source, EndpointModelConfig):
        return run_here(f"hosted {source.model}", source, settings, {})
    return run_here(f"import {Path(source.source).name}", source, settings, {})


def open_engine(name: str, folder: Path, max_rows: int = 128) -> Engine:
    """A model on the GPU where there is one. Raises InputError where the folder holds none that can be opened."""
    try:
        model, tokenizer = load_model(folder)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{name} is no model that can be opened: {error}", "give a language model") from error
    return Engine(model.to("cuda") if torch.cuda.is_available() else model, tokenizer, max_rows=max_rows)


def model_folder(source: Source, settings: Settings) -> Path:
    """A folder that holds the model: a Hugging Face folder is used where it lies, a GGUF file is imported first.

    Raises InputError for a hosted model.
    """
    source = with_weights("MODEL", reference_of(source), source)
    if isinstance(source, ImportModelConfig) and source.format == "hf":
        return Path(source.source)
    return as_artifact(source, settings).folder()


def reference_of(source: Source) -> str:
    """What names the source to a person."""
    if isinstance(source, Artifact):
        return source.uri
    return source.reference if isinstance(source, EndpointModelConfig) else source.source
