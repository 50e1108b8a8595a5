"""What can be wrong with a run is found before a server is started or a stage runs."""

from pathlib import Path

from deployments.planned_models import fetched
from deployments.plans import about
from deployments.references import Source, with_weights
from infra.artifacts import Artifact
from infra.doctor import Check, configured, disk, workspace
from infra.errors import InputError, RatchetError, ServiceError, StageFailed, StoreError
from infra.settings import Settings
from infra.storage import Storage
from tasks.configs.attributes import AttributesConfig
from tasks.configs.base import EndpointResources
from tasks.configs.endpoint_model import ENDPOINT_FILE, EndpointModelConfig, is_hosted
from tasks.configs.plan import Plan
from tasks.engines.check import check_model
from tasks.read_source import check_source
from tasks.sources.helpsteer2 import read_helpsteer2


def preflight(plan: Plan, settings: Settings) -> None:
    """Raises InputError for models or data files that cannot be read, StoreError and ServiceError for places that
    cannot be written or do not answer. Registry and hub references are looked up when the servers are there.
    """
    for check in (workspace(settings.workspace), disk(settings.workspace)):
        demand(check, StoreError)
    Storage.open(settings.store).children("")
    for check in configured(settings):
        demand(check, ServiceError)
    if plan.pretraining is None:
        check_models(plan, settings)
    if isinstance(plan.attributes, AttributesConfig) and plan.attributes.helpsteer2:
        read_helpsteer2(Path(plan.attributes.helpsteer2), plan.attributes.max_rows)
    for setting, source in plan.files().items():
        with about(setting):
            check_source(source)


def check_models(plan: Plan, settings: Settings) -> None:
    """That the plan's references name models, the base one with weights, and that a hosted generator answers."""
    found: dict[str, Source | None] = {}
    for field, reference in (("base", plan.base), ("generator", plan.generator)):
        if not reference.startswith("models:/"):
            found[field] = fetched(reference, settings, None)
    if (base := found.get("base")) is not None:
        with_weights("base", plan.base, base)
    if (generator := found.get("generator")) is not None and is_hosted(generator):
        check_endpoint(generator, plan.endpoint)


def check_endpoint(source: Source, settings: EndpointResources) -> None:
    """Ask a hosted model for one token, with this process's key. Raises InputError or ServiceError, naming the field.

    What stops a stage stops the run before it starts.
    """
    if isinstance(source, Artifact):
        source = EndpointModelConfig.model_validate(source.read_json(ENDPOINT_FILE))
    assert isinstance(source, EndpointModelConfig), source
    try:
        check_model(source, settings)
    except RatchetError as error:
        kind = InputError if isinstance(error, StageFailed) else type(error)
        raise kind(f"generator: {error.message}", error.remedy) from error


def demand(check: Check, error: type[RatchetError]) -> None:
    if not check.ok:
        raise error(f"{check.name}: {check.found}", check.remedy)
