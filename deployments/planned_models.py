"""The plan's two models as far as they can be known without fetching anything: where they are and how large."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from deployments.known_models import KNOWN_MODELS
from deployments.references import ARTIFACT_URI, resolve
from flows.foundations import Source
from flows.steps import make_step
from infra.artifacts import Artifact
from infra.errors import ArtifactMissing, InputError
from infra.settings import Settings
from models.config import ModelConfig
from models.folders import CONFIG_FILE, load_config
from models.gguf_file import GGUFFile
from tasks.configs.base import Resources
from tasks.configs.import_model import ImportModelConfig
from tasks.configs.plan import Plan

TRAINING_BYTES = 16
"""Per parameter, with AdamW: weights and gradients in bf16, weights and two moments in fp32."""
WEIGHT_BYTES_GPU, WEIGHT_BYTES_CPU = 2, 4


@dataclass(frozen=True)
class PlannedModel:
    """One of the plan's models. Where it is not fetched yet, `source` is a stand-in whose fingerprint means nothing."""

    role: str
    reference: str
    state: str
    """"in the store", "to be imported", "not fetched yet", or "made by this plan"."""
    source: Source | None
    parameters: int | None

    @property
    def is_fetched(self) -> bool:
        return self.state != "not fetched yet"

    def memory(self, resources: Resources, training: bool) -> int | None:
        """Bytes on each GPU (of the process, where there is none): weights, in training with gradients and AdamW."""
        if self.parameters is None:
            return None
        if not resources.gpus:
            return self.parameters * (TRAINING_BYTES if training else WEIGHT_BYTES_CPU)
        if training:
            return self.parameters * TRAINING_BYTES // (resources.gpus * resources.nodes)
        return self.parameters * WEIGHT_BYTES_GPU // resources.tensor_parallel

    def as_document(self, writing: Resources, training: Resources | None) -> dict[str, Any]:
        """With the memory it takes where it answers, and where it is trained."""
        return {
            "role": self.role,
            "reference": self.reference,
            "state": self.state,
            "parameters": self.parameters,
            "on_gpus": writing.gpus > 0,
            "weights_bytes": self.memory(writing, training=False),
            "training_bytes": self.memory(training, training=True) if training else None,
        }


def planned_models(plan: Plan, settings: Settings, tracking_uri: str | None) -> tuple[PlannedModel, PlannedModel]:
    """Generator and base. Raises InputError for a reference that names nothing."""
    if plan.pretraining is not None:
        size = pretrained_size(plan, settings.store)
        made = [PlannedModel(role, "", "made by this plan", None, size) for role in ("generator", "base")]
        return made[0], made[1]
    generator = planned_model("generator", plan.generator, settings, tracking_uri)
    if plan.base == plan.generator:
        return generator, PlannedModel("base", plan.base, generator.state, generator.source, generator.parameters)
    return generator, planned_model("base", plan.base, settings, tracking_uri)


def planned_model(role: str, reference: str, settings: Settings, tracking_uri: str | None) -> PlannedModel:
    source = fetched(reference, settings, tracking_uri)
    if source is None:
        stand_in = hashlib.sha256(reference.encode()).hexdigest()
        placeholder = ImportModelConfig(digest=stand_in, format="hf", source=reference)
        known = KNOWN_MODELS.get(reference)
        return PlannedModel(role, reference, "not fetched yet", placeholder, known.num_parameters if known else None)
    is_stored = isinstance(source, Artifact) or make_step("", source, settings.store, {}).artifact.exists()
    return PlannedModel(role, reference, "in the store" if is_stored else "to be imported", source, size(source))


def fetched(reference: str, settings: Settings, tracking_uri: str | None) -> Source | None:
    """What a reference names, None where it would have to be fetched from elsewhere first."""
    if reference.startswith("s3://") and not ARTIFACT_URI.fullmatch(reference):
        return None
    if not reference.startswith("hf:"):
        return resolve(reference, tracking_uri, settings.workspace / "cache")
    try:
        return ImportModelConfig.of(snapshot_download(reference.removeprefix("hf:"), local_files_only=True))
    except (LocalEntryNotFoundError, InputError):  # nothing in the hub's cache, or only a part of it
        return None
    except ValueError as error:
        raise InputError(f"{reference}: {str(error).splitlines()[0]}", "write hf:ORG/NAME") from error


def size(source: Source) -> int | None:
    """Parameters, from headers and small files."""
    if isinstance(source, Artifact):
        return ModelConfig.from_hf(source.read_json(CONFIG_FILE)).num_parameters
    if source.format == "hf":
        return load_config(source.source).num_parameters
    tensors = GGUFFile(Path(source.source)).tensors
    return sum(int(np.prod(entry.shape, dtype=np.int64)) for entry in tensors.values())


def pretrained_size(plan: Plan, store: str) -> int | None:
    """Parameters of the model that the plan pretrains, once its tokenizer is made."""
    pretraining = plan.pretraining
    assert pretraining is not None, plan.preset
    texts = tuple(
        make_step("", config, store, {}).artifact for config in (pretraining.documents, pretraining.continued_documents)
    )
    tokenizer = make_step("", pretraining.tokenizer, store, {"texts": texts}).artifact
    try:
        vocabulary = tokenizer.manifest().metrics["vocabulary"]
    except ArtifactMissing:
        return None
    return pretraining.main.model.model_config_for(int(vocabulary)).num_parameters
