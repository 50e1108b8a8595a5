"""Pretraining and continued pretraining: where a plan without given weights gets its generator and base.

The generator is an early checkpoint aligned with a few human rows; the base is a later checkpoint of the same run.
A weak teacher and a stronger student: that is the loop's weak-to-strong setting (paper, section 3.4).
"""

from typing import NamedTuple

from prefect import flow

from flows import stages
from infra.artifacts import Artifact
from tasks.configs.plan import Plan


class Pretrained(NamedTuple):
    generator: Artifact
    base: Artifact
    human: Artifact


@flow(name="pretrain", flow_run_name="pretrain", validate_parameters=False)
def pretrain(plan: Plan, items: Artifact) -> Pretrained:
    """Main phase, then the continued phase with its own data and schedule (paper, section 2.4).

    A user's human rows are cleaned of what overlaps with the evaluation `items`.
    """
    if plan.pretraining is None:
        raise ValueError(f"the plan {plan.preset!r} has no pretraining part")
    corpus = stages.write_corpus(plan.pretraining, plan.deduplicate, items)
    early = stages.pretrain_main(plan.pretraining, corpus)
    late = stages.pretrain_continued(plan.pretraining, corpus, early)
    teacher = stages.align_teacher(plan.pretraining, early, corpus.human)
    return Pretrained(teacher, late, corpus.human)
