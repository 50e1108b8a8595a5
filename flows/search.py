"""A training step with ranges among its settings: every candidate as stages of its own, then the choice among them.

    with ray_job("general sft") as stage:     # general sft [1 of 3], general sft [1 of 3] dev, …, general sft search
        search = try_all(stage, plan, "general sft", plan.general_sft, train)
    step = search.chosen()                    # known once the block has run

A candidate is the very stage that a plan with its values would run, so that the chosen one is there already.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from flows.execution import RUNNER, StageCall
from flows.products import Trained
from infra.artifacts import Artifact
from tasks.configs.plan import Plan
from tasks.configs.search import Searched, candidates


@dataclass(frozen=True)
class Search:
    """What was tried; `table` is the choice's artifact, None where the settings leave nothing to choose."""

    tried: tuple[Trained, ...]
    table: Artifact | None

    def chosen(self) -> Trained:
        """The candidate that goes on. A planner that finds no choice yet gets a stand-in (`undecided`)."""
        if self.table is None:
            return self.tried[0]
        first = self.tried[0]
        if RUNNER.get().dry and self.table.check():
            unknown = {"fingerprint": undecided(self.table)}
            found = Trained(first.model.model_copy(update=unknown), first.evaluation.model_copy(update=unknown))
        else:
            found = self.tried[self.table.manifest().result["chosen"]]
        return found._replace(table=self.table)


def try_all(
    stage: StageCall, plan: Plan, label: str, config: Searched, train: Callable[[str, Searched], Trained]
) -> Search:
    """Add the candidates of `config` to the job, each by `train(label, candidate)`, and the choice among several."""
    configs = candidates(config)
    if len(configs) == 1:
        return Search((train(label, config),), None)
    tried = [train(f"{label} [{place} of {len(configs)}]", found) for place, found in enumerate(configs, 1)]
    models, evaluations = tuple(found.model for found in tried), tuple(found.evaluation for found in tried)
    return Search(tuple(tried), stage(f"{label} search", plan.tune, models=models, evaluations=evaluations))


def undecided(table: Artifact) -> str:
    """The fingerprint that stands for the chosen checkpoint while the search has not ended."""
    return hashlib.sha256(f"choice of {table.fingerprint}".encode()).hexdigest()[:32]
