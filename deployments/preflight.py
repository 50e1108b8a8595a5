"""What can be wrong with a run is found before a server is started or a stage runs."""

from pathlib import Path

from deployments.planned_models import fetched
from infra.doctor import Check, configured, disk, workspace
from infra.errors import RatchetError, ServiceError, StoreError
from infra.settings import Settings
from infra.storage import Storage
from tasks.configs.attributes import AttributesConfig
from tasks.configs.plan import Plan
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
        for reference in {plan.generator, plan.base}:
            if not reference.startswith("models:/"):
                fetched(reference, settings, None)
    if isinstance(plan.attributes, AttributesConfig) and plan.attributes.helpsteer2:
        read_helpsteer2(Path(plan.attributes.helpsteer2), plan.attributes.max_rows)


def demand(check: Check, error: type[RatchetError]) -> None:
    if not check.ok:
        raise error(f"{check.name}: {check.found}", check.remedy)
