"""What a run would do, found by walking the flows without running them: every stage, and whether it is there already.

What depends on a model that is not fetched, or on a verdict that has not fallen, has an address that nobody knows yet.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from deployments.planned_memory import StageMemory, refuse_too_large, stage_memory
from deployments.planned_models import PlannedModel, planned_models
from deployments.plans import about
from deployments.wheel import Sources, project_of
from flows.bookkeeping import lineage_of
from flows.execution import Planner, running
from flows.foundations import prepare
from flows.iteration import iteration
from flows.search import undecided
from flows.steps import Step, make_step
from flows.succession import line_of_generators
from infra.artifacts import Artifact, addresses
from infra.errors import RatchetError
from infra.manifest import MANIFEST, Manifest
from infra.records import Records
from infra.settings import Settings
from infra.storage import Storage
from models.config import ModelConfig
from tasks.configs.base import Resources, StageConfig
from tasks.configs.plan import Plan
from tasks.configs.report import ReportConfig
from tasks.configs.training import AlignmentConfig, PretrainConfig
from tasks.configs.tune import TuneConfig

STATES = ("cached", "missing", "damaged", "unknown")


@dataclass(frozen=True)
class PlannedStage:
    """`state`: a damaged artifact would be made again; an unknown one's address is not known yet."""

    job: str
    name: str
    stage: str
    state: str
    artifact: str | None
    """Its address; None where that depends on what is not known yet."""
    gpus: int
    tokens: int | None
    """Most tokens that training takes, where the settings alone say it."""
    last_wall_s: float | None
    """What a stage of this name last took in this store."""
    memory: StageMemory | None = None
    """Of a training stage whose model's shape is known."""


@dataclass(frozen=True)
class PlannedIteration:
    number: int
    generator: str | None
    """Address of the model that writes its data; None while the iteration before has no verdict."""
    stages: list[PlannedStage] = field(default_factory=list)


@dataclass(frozen=True)
class RunPlan:
    """Everything that `ratchet plan` shows."""

    plan: Plan
    project: str
    lineage: str | None
    """None while a model is not fetched, whose content tells one lineage from another."""
    store: str
    models: tuple[PlannedModel, PlannedModel]
    iterations: list[PlannedIteration]

    def as_document(self) -> dict[str, Any]:
        """What `ratchet plan --json` prints."""
        stages = [stage for item in self.iterations for stage in item.stages]
        generator, base = self.models
        return {
            "preset": self.plan.preset,
            "project": self.project,
            "lineage": self.lineage,
            "store": self.store,
            "models": [
                generator.as_document(self.plan.responses.resources, None),
                base.as_document(self.plan.responses.resources, self.plan.general_sft.resources),
            ],
            "iterations": [asdict(item) for item in self.iterations],
            "totals": totals(stages),
            "notes": list(self.plan.notes),
        }

    def check_memory(self) -> None:
        """Raises InputError where a training stage that is still to run takes more memory than there is."""
        stages = [stage for item in self.iterations for stage in item.stages if stage.state != "cached"]
        refuse_too_large({stage.name: stage.memory for stage in stages if stage.memory})


def totals(stages: Iterable[PlannedStage]) -> dict[str, Any]:
    """Counts by state; time and GPU-hours of what is not cached, as far as such stages ran before."""
    stages = list(stages)
    todo = [stage for stage in stages if stage.state != "cached"]
    timed = [(stage, stage.last_wall_s) for stage in todo if stage.last_wall_s is not None]
    return {
        **{state: sum(stage.state == state for stage in stages) for state in STATES},
        "last_wall_s": round(sum(seconds for _, seconds in timed), 1),
        "gpu_hours": round(sum(stage.gpus * seconds for stage, seconds in timed) / 3600, 3),
        "never_timed": len(todo) - len(timed),
    }


def plan_run(plan: Plan, settings: Settings, iterations: int, tracking_uri: str | None) -> RunPlan:
    """Walk `iterations` turns. Raises InputError for a model reference or a file that names nothing."""
    for setting, source in plan.files().items():
        with about(setting):
            source.recipe()  # what stands in its place, unless a digest is given
    models = planned_models(plan, settings, tracking_uri)
    project, store = project_of(plan, settings), Storage.open(settings.store)
    sources = Sources(models[0].source, models[1].source)
    is_fetched = all(model.is_fetched for model in models)
    lineage = lineage_of(plan, sources.fingerprints(settings.store)) if is_fetched else None
    records = Records(store, project, lineage) if lineage else None
    walk = Walk(plan, settings.store, records, LastTimes(store), models[1].shape)
    walk.doubt(model.source for model in models if not model.is_fetched)
    walk.start(sources)
    return RunPlan(
        plan, project, lineage, store.uri, models, [walk.turn(number) for number in range(1, iterations + 1)]
    )


class Walk:
    """One pass over the flows; `unknown` holds the fingerprints that stand for something not known yet."""

    def __init__(
        self, plan: Plan, store: str, records: Records | None, times: "LastTimes", base: ModelConfig | None
    ) -> None:
        """`base`: the shape of every model that is trained, where it is known."""
        self.plan, self.store, self.records, self.times, self.base = plan, store, records, times, base
        self.planner = Planner(store)
        self.unknown: set[str] = set()

    def doubt(self, sources: Iterable[Any]) -> None:
        """What follows from these sources is unknown."""
        self.unknown |= {make_step("", source, self.store, {}).artifact.fingerprint for source in sources}

    def start(self, sources: Sources) -> None:
        with running(self.planner):
            self.given = prepare(self.plan, sources.generator, sources.base)

    def turn(self, number: int) -> PlannedIteration:
        """The stages of one iteration; the first one's are preceded by the foundations'."""
        generator = self.generator(number)
        known = generator is not None
        if generator is None:
            stand_in = hashlib.sha256(f"generator of iteration {number}".encode()).hexdigest()[:32]
            generator = Artifact(stage="sft", kind="checkpoint", fingerprint=stand_in, store=self.store)
            self.unknown.add(stand_in)
        with running(self.planner):
            iteration.fn(self.plan.for_iteration(number), number, generator, self.given)
        jobs, self.planner.jobs = self.planner.jobs, []
        stages = [self.look(job, step) for job, steps in jobs for step in steps]
        known = known and generator.fingerprint not in self.unknown
        return PlannedIteration(number, generator.uri if known else None, [*stages, self.report(number)])

    def generator(self, number: int) -> Artifact | None:
        """Pinned by the iteration's record, else what the iteration before left in place; None: not known yet."""
        if number == 1:
            return self.given.generator
        if self.records is None:
            return None
        pinned = self.records.get("iteration", number)
        if pinned is not None:
            return pinned.generator
        if self.records.get("verdict", number - 1) is None:
            return None
        return line_of_generators(self.records, number - 1)[-1]

    def look(self, job: str, step: Step) -> PlannedStage:
        artifact = step.artifact
        if any(parent.fingerprint in self.unknown for _, parent in step.parents()):
            self.unknown.add(artifact.fingerprint)
        resources = step.config.resources
        known = artifact.fingerprint not in self.unknown
        state, uri = (state_of(artifact), artifact.uri) if known else ("unknown", None)
        if artifact.stage == TuneConfig.stage and state != "cached":
            self.unknown.add(undecided(artifact))
        last = self.times.of(artifact.stage, step.label)
        most, memory = tokens(step.config), stage_memory(step.label, step.config, self.base)
        return PlannedStage(job, step.label, artifact.stage, state, uri, gpus(resources), most, last, memory)

    def report(self, number: int) -> PlannedStage:
        """Made when the verdict is there, from the words of the command that ran: found by its iteration instead."""
        found = self.times.report(self.records.key.rsplit("/", 1)[1], number) if self.records else None
        state = "cached" if found else "missing" if self.records else "unknown"
        last = self.times.of(ReportConfig.stage, "report")
        uri = f"{self.store}/artifacts/{ReportConfig.stage}/{found.fingerprint}" if found else None
        return PlannedStage("report", "report", ReportConfig.stage, state, uri, 0, None, last)


def state_of(artifact: Artifact) -> str:
    problems = artifact.check()
    if not problems:
        return "cached"
    return "missing" if problems == [(MANIFEST, "missing")] else "damaged"


def gpus(resources: Resources) -> int:
    return resources.gpus * resources.nodes + resources.engines.count * resources.engines.gpus


def tokens(config: StageConfig) -> int | None:
    """Most tokens that a training stage takes, where its settings alone say it."""
    if isinstance(config, PretrainConfig):
        return config.most_tokens
    if isinstance(config, AlignmentConfig) and config.steps is not None:
        return config.steps * config.global_batch_size * config.max_tokens
    return None


class LastTimes:
    """Manifests of a store, read stage by stage when one is asked for."""

    def __init__(self, store: Storage) -> None:
        self.store = store
        self._manifests: dict[str, list[Manifest]] = {}

    def of(self, stage: str, label: str) -> float | None:
        """Seconds that the newest artifact of this stage took, of the same label where there is one."""
        found = self._read(stage)
        same = [manifest for manifest in found if manifest.label == label]
        newest = max(same or found, key=lambda manifest: manifest.created, default=None)
        return newest.wall_s if newest else None

    def report(self, lineage: str, number: int) -> Manifest | None:
        """An iteration's report."""
        for manifest in self._read(ReportConfig.stage):
            if (manifest.recipe.get("lineage"), manifest.recipe.get("number")) == (lineage, number):
                return manifest
        return None

    def _read(self, stage: str) -> list[Manifest]:
        if stage not in self._manifests:
            self._manifests[stage] = [*self._readable(stage)]
        return self._manifests[stage]

    def _readable(self, stage: str) -> Iterable[Manifest]:
        for name, fingerprint in addresses(self.store, stage):
            try:
                yield Artifact(stage=name, kind="", fingerprint=fingerprint, store=self.store.uri).manifest()
            except RatchetError:  # damaged: the stage that needs it says so
                continue
