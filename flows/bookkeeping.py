"""The wheel's book: an immutable record of each iteration, verdict and promotion; the registry follows them."""

import hashlib
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from prefect.artifacts import create_markdown_artifact

from flows import stages
from flows.events import Event, publish
from flows.execution import running
from flows.model_card import licences, model_card
from flows.products import Foundations, Turn
from flows.runner import JobRunner, Site
from flows.succession import ALIAS_GENERATOR, line_of_generators, point_aliases
from infra.artifacts import Artifact
from infra.errors import InputError
from infra.records import IterationRecord, PromotionRecord, Records, VerdictRecord
from infra.storage import Storage
from infra.tracking import Registry, Tracker
from tasks.configs.plan import Plan
from tasks.configs.report import ReportConfig

ALIAS_CANDIDATE, ALIAS_REWARD = "candidate", "reward"


def lineage_of(plan: Plan, sources: tuple[str, ...]) -> str:
    """A lineage is a plan's recipe with its first generator and base, by fingerprint."""
    return hashlib.sha256("\n".join([plan.digest(), *sources]).encode()).hexdigest()[:16]


@dataclass
class IterationSummary:
    """What `ratchet run --json` tells of one iteration."""

    number: int
    verdict: str
    candidate: int
    """Version in the registry."""
    report: str
    stages: list[dict[str, Any]]
    steps: dict[str, dict[str, float]]
    """Development metrics by step, the generator's first."""
    result: dict[str, Any]
    wall_s: float


@dataclass
class Book:
    """One lineage of one project, for one run of the wheel."""

    plan: Plan
    project: str
    lineage: str
    site: Site
    tracker: Tracker
    reproduce: str
    summaries: list[IterationSummary] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.records = Records(Storage.open(self.site.store), self.project, self.lineage)
        self.registry = Registry(self.tracker)

    def open(self, number: int) -> JobRunner:
        """A runner whose stage runs lie under the iteration's run in MLflow."""
        self.started = time.monotonic()
        publish(Event("iteration", f"iteration {number}"))
        run = self.tracker.iteration(self.lineage, number, {"preset": self.plan.preset, **self.plan.recipe()})
        return JobRunner(self.site, self.tracker, run)

    def check_code(self) -> None:
        """Raises InputError where an iteration was judged with other code than this.

        It would be made again, to come to another candidate than its record tells.
        """
        now = self.plan.versions()
        for verdict in self.records.all("verdict"):
            changed = [
                f"{stage} ({version} then, {now[stage]} now)"
                for stage, version in verdict.versions.items()
                if stage in now and now[stage] != version
            ]
            if changed:
                raise InputError(
                    f"iteration {verdict.number} of lineage {self.lineage} was judged with other code; versions differ "
                    f"of {', '.join(changed)}",
                    "start a new lineage with --fresh, or go on with the Ratchet that judged it",
                )

    def pin(self, number: int, given: Foundations) -> Artifact:
        """Fix the iteration's generator before any of its stages starts; returns it.

        One that is fixed stays, also where a rollback has put another generator in place since.
        """
        earlier = self.records.get("iteration", number)
        if earlier is not None:
            generator = earlier.generator
        else:
            generator = given.generator if number == 1 else self.generator_after(number - 1)
        self.records.put(
            "iteration",
            number,
            IterationRecord(
                number=number, lineage=self.lineage, plan_digest=self.plan.digest(), generator=generator,
                base=given.base, salt=self.plan.salt,
            ),
        )  # fmt: skip
        return generator

    def generator_after(self, number: int) -> Artifact:
        """What iteration `number` left in place, rollbacks included that came before the next iteration's verdict."""
        if self.records.get("verdict", number) is None:
            raise ValueError(f"iteration {number} of lineage {self.lineage} has no verdict yet")
        return line_of_generators(self.records, number)[-1]

    def close(self, number: int, turn: Turn, runner: JobRunner, given: Foundations) -> None:
        """Record the verdict, bring the registry in line with the records, and write the report."""
        result = turn.examined.verdict.manifest().result
        promoted = result["verdict"] == "promote"
        following = turn.candidate if promoted else turn.generator
        self.records.put(
            "verdict",
            number,
            VerdictRecord(
                number=number, verdict=result["verdict"], candidate=turn.candidate, generator=turn.generator,
                next_generator=following, summary=result, versions=self.plan.versions(),
            ),
        )  # fmt: skip
        if promoted:
            reason = "; ".join(result.get("reasons", []))
            record = PromotionRecord(number=number, source=turn.generator, target=turn.candidate, reason=reason)  # type: ignore[call-arg]
            self.records.put("promotion", number, record)
        candidate = self._reconcile(number, turn, given, result["verdict"])
        wall_s = time.monotonic() - self.started
        with running(runner):
            page = stages.report(self._report_config(number, turn, runner, wall_s), turn)
        self.tracker.finish(runner.parent_run, verdict_metrics(result), {"ratchet.verdict": result["verdict"]})
        create_markdown_artifact(verdict_markdown(number, result, page.uri), key="verdict", description="The gate")
        publish(Event("verdict", f"iteration {number}", {"verdict": result["verdict"], "result": result}))
        stages_made, steps = list(runner.outcomes), step_metrics(turn)
        self.summaries.append(
            IterationSummary(number, result["verdict"], candidate, page.uri, stages_made, steps, result, wall_s)
        )

    def _reconcile(self, number: int, turn: Turn, given: Foundations, verdict: str) -> int:
        """A version for every checkpoint and the aliases as the records say; returns the candidate's version."""
        share = turn.data["general mix"].manifest().metrics.get("synthetic_share")
        common = {"iteration": number, "lineage": self.lineage, "base": turn.base.fingerprint, "synthetic_share": share}
        if number == 1:
            self._register(given.base, {"step": "base"})
            self._register(given.generator, {"step": "first generator"})
            self.registry.set_alias(ALIAS_REWARD, self._register(given.reward_model, {"step": "reward model"}))
        version = 0
        for label, step in turn.steps.items():
            last = step.model == turn.candidate
            facts = common | {"step": label, "generator": turn.generator.fingerprint}
            version = self._register(step.model, facts | ({"gate_verdict": verdict} if last else {}))
        self.registry.set_alias(ALIAS_CANDIDATE, version)
        # A lineage that promoted nothing must not take the alias from another one's promoted model.
        promoted = any(verdict.verdict == "promote" for verdict in self.records.all("verdict"))
        if promoted or ALIAS_GENERATOR not in self.registry.aliases():
            point_aliases(self.registry, line_of_generators(self.records))
        return version

    def _register(self, model: Artifact, facts: dict[str, Any]) -> int:
        card = model_card(model, {"name": f"{self.project}: {facts['step']}", **facts})
        tags = {key: str(value) for key, value in facts.items() if value is not None}
        return self.registry.register(model, tags | {"licence": ", ".join(licences(model)) or "unknown"}, card)

    def _report_config(self, number: int, turn: Turn, runner: JobRunner, wall_s: float) -> ReportConfig:
        return ReportConfig(
            project=self.project,
            lineage=self.lineage,
            number=number,
            preset=self.plan.preset,
            notes=self.plan.notes,
            steps=tuple(turn.steps),
            data=tuple(turn.data),
            controls=tuple(turn.controls),
            reproduce=self.reproduce,
            timeline=tuple(runner.timeline),
            wall_s=wall_s,
            links={"MLflow run": self.tracker.run_url(runner.parent_run)},
        )


BOOK: ContextVar[Book] = ContextVar("book")


def step_metrics(turn: Turn) -> dict[str, dict[str, float]]:
    """Metrics on the development half: of the generator, then after each training step."""
    evaluations = {"generator": turn.baseline} | {label: step.evaluation for label, step in turn.steps.items()}
    return {label: evaluation.manifest().metrics for label, evaluation in evaluations.items()}


def verdict_metrics(result: dict[str, Any]) -> dict[str, float]:
    """The verdict's plain numbers, for the iteration's run."""
    return {f"gate/{key}": float(value) for key, value in result.items() if isinstance(value, int | float)}


def verdict_markdown(number: int, result: dict[str, Any], report: str) -> str:
    """What the Prefect UI shows of the gate."""
    lines = [f"# Iteration {number}: {result['verdict']}", "", *(f"- {reason}" for reason in result["reasons"])]
    numbers = [f"| {key} | {value:.4g} |" for key, value in result.items() if isinstance(value, int | float)]
    return "\n".join([*lines, "", "| measure | value |", "|---|---|", *numbers, "", f"Report: `{report}/report.html`"])
