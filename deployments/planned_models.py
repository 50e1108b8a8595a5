"""The plan's two models as far as they can be known without fetching anything: where they are and how large."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from deployments.known_models import KNOWN_MODELS
from deployments.references import ARTIFACT_URI, Source, resolve, with_weights
from flows.execution import Planner, running
from flows.stages import set_exam, write_corpus
from flows.steps import make_step
from infra.artifacts import Artifact
from infra.errors import ArtifactMissing, InputError
from infra.settings import Settings
from models.config import ModelConfig
from models.folders import CONFIG_FILE, load_config
from models.gguf_file import GGUFFile
from models.planner import GenerationMemory, generation_memory
from tasks.configs.base import Resources
from tasks.configs.endpoint_model import EndpointModelConfig, is_hosted
from tasks.configs.import_model import ImportModelConfig
from tasks.configs.plan import Plan
from tasks.configs.pretraining_data import TrainTokenizerConfig

TRAINING_BYTES = 16
"""Per parameter, with AdamW: weights, gradients and two moments in fp32."""


@dataclass(frozen=True)
class PlannedModel:
    """One of the plan's models. Where it is not fetched yet, `source` is a stand-in whose fingerprint means nothing."""

    role: str
    reference: str
    state: str
    """"in the store", "to be imported", "not fetched yet", "hosted", or "made by this plan"."""
    source: Source | None
    shape: ModelConfig | None
    """None where it is hosted or not known yet."""

    @property
    def parameters(self) -> int | None:
        return None if self.shape is None else self.shape.num_parameters

    @property
    def is_fetched(self) -> bool:
        return self.state != "not fetched yet"

    def training_bytes(self, resources: Resources) -> int | None:
        """On each GPU (of a process, where there is none): weights, gradients and AdamW's numbers."""
        if self.parameters is None:
            return None
        return self.parameters * TRAINING_BYTES // (resources.training_workers // resources.replicas)

    def writing_memory(self, resources: Resources) -> GenerationMemory | None:
        """On each GPU (of the process, where there is none)."""
        if self.shape is None:
            return None
        engines = resources.engines
        parts = engines.tensor_parallel if engines.count else 1
        device = int(resources.gpu_memory_gb * 1e9) if resources.writes_on_gpus else None
        kind = engines.kind if engines.count else "own"
        try:
            return generation_memory(self.shape, resources.written_precision, parts, device, kind)
        except ValueError as error:
            raise InputError(f"{self.role}: {error}", "change resources.engines.tensor_parallel") from error

    def as_document(self, writing: Resources, training: Resources | None) -> dict[str, Any]:
        """With the memory it takes where it answers, and where it is trained."""
        memory = self.writing_memory(writing)
        return {
            "role": self.role,
            "reference": self.reference,
            "state": self.state,
            "parameters": self.parameters,
            "on_gpus": writing.writes_on_gpus,
            "precision": writing.written_precision,
            "weights_bytes": memory.weights if memory else None,
            "cache_token_bytes": memory.cache_per_token if memory else None,
            "cache_tokens": memory.cache_tokens if memory else None,
            "training_bytes": self.training_bytes(training) if training else None,
        }


def planned_models(plan: Plan, settings: Settings, tracking_uri: str | None) -> tuple[PlannedModel, PlannedModel]:
    """Generator and base. Raises InputError for a reference that names nothing."""
    if plan.pretraining is not None:
        shape = pretrained_shape(plan, settings.store)
        made = [PlannedModel(role, "", "made by this plan", None, shape) for role in ("generator", "base")]
        return made[0], made[1]
    generator = planned_model("generator", plan.generator, settings, tracking_uri)
    if generator.source is not None and plan.base == plan.generator:
        with_weights("base", plan.base, generator.source)
        return generator, PlannedModel("base", plan.base, generator.state, generator.source, generator.shape)
    base = planned_model("base", plan.base, settings, tracking_uri)
    if base.source is not None:
        with_weights("base", plan.base, base.source)
    return generator, base


def planned_model(role: str, reference: str, settings: Settings, tracking_uri: str | None) -> PlannedModel:
    source = fetched(reference, settings, tracking_uri)
    if source is None:
        stand_in = hashlib.sha256(reference.encode()).hexdigest()
        placeholder = ImportModelConfig(digest=stand_in, format="hf", source=reference)
        known = KNOWN_MODELS.get(reference)
        return PlannedModel(role, reference, "not fetched yet", placeholder, known)
    if is_hosted(source):
        return PlannedModel(role, reference, "hosted", source, None)
    is_stored = isinstance(source, Artifact) or make_step("", source, settings.store, {}).artifact.exists()
    return PlannedModel(role, reference, "in the store" if is_stored else "to be imported", source, shape_of(source))


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


def shape_of(source: Source) -> ModelConfig | None:
    """From headers and small files; None for a hosted model."""
    if isinstance(source, EndpointModelConfig) or is_hosted(source):
        return None
    if isinstance(source, Artifact):
        return ModelConfig.from_hf(source.read_json(CONFIG_FILE))
    if source.format == "hf":
        return load_config(source.source)
    from models.gguf import read_config  # noqa: PLC0415 - it brings torch, which a plan else does without

    return read_config(GGUFFile(Path(source.source)))


def pretrained_shape(plan: Plan, store: str) -> ModelConfig | None:
    """That of the model that the plan pretrains; a vocabulary of whole words is known once the tokenizer is made."""
    pretraining = plan.pretraining
    assert pretraining is not None, plan.preset
    if isinstance(pretraining.tokenizer, TrainTokenizerConfig):
        return pretraining.main.model.model_config_for(pretraining.tokenizer.vocabulary)
    with running(Planner(store)):
        tokenizer = write_corpus(pretraining, plan.deduplicate, set_exam(plan)).tokenizer
    try:
        vocabulary = tokenizer.manifest().metrics["vocabulary"]
    except ArtifactMissing:
        return None
    return pretraining.main.model.model_config_for(int(vocabulary))
