"""A plan of three jobs for the kill tests, started as a command: `python three_stages.py WORKSPACE`.

The `pretrain` flow of `tiny` at a small size: a corpus, two phases of pretraining, and a teacher. What happens is told
on stdout, one JSON document a line.
"""

import json
import sys
from pathlib import Path

from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.presets import tiny
from deployments.session import session
from flows.events import Event, listening
from flows.execution import running
from flows.pretrain import pretrain
from flows.runner import JobRunner, Site
from flows.steps import make_step
from infra.errors import RatchetError
from infra.services import cores
from infra.settings import Settings
from infra.tracking import Tracker
from tasks.configs.base import Resources
from tasks.configs.plan import Plan
from tasks.configs.world import DocumentsConfig

OFTEN = Resources(checkpoint_every_s=1.0)


def small_plan() -> Plan:
    plan = tiny()
    parts = plan.pretraining
    assert parts is not None
    assert isinstance(parts.documents, DocumentsConfig) and isinstance(parts.continued_documents, DocumentsConfig)
    training = {"resources": OFTEN}
    smaller = {
        "documents": parts.documents.model_copy(update={"documents": 60_000, "shard_rows": 2_000}),
        "continued_documents": parts.continued_documents.model_copy(update={"documents": 4_000}),
        "main": parts.main.model_copy(update={"steps": 90, "warmup_steps": 10, **training}),
        "continued": parts.continued.model_copy(update={"steps": 60, **training}),
        "teacher_sft": parts.teacher_sft.model_copy(update={"epochs": 12, **training}),
    }
    return plan.model_copy(update={"pretraining": parts.model_copy(update=smaller)})


def tell(event: Event) -> None:
    print(json.dumps({"kind": event.kind, "label": event.label, **event.data}), flush=True)


def main(workspace: Path) -> None:
    settings = Settings.from_env(workspace=workspace)
    with session(settings, lambda text: print(text, file=sys.stderr)) as servers:
        site = Site(settings.store, settings.workspace, cores(), servers.cluster)
        tracker = Tracker(servers.mlflow_tracking_uri, "kills")
        runner = JobRunner(site, tracker, tracker.iteration("kills", 1, {}))
        with temporary_settings({PREFECT_API_URL: servers.prefect_api_url}), running(runner), listening(tell):
            plan = small_plan()
            # Only its address: the world's human rows are not compared with evaluation items.
            items = make_step("evaluation set", plan.evaluation_set, settings.store, {}).artifact
            pretrain(plan, items)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except RatchetError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
