"""What the wheel stands on: the evaluation items, the first generator, the base, and the reward model."""

from flows import stages
from flows.execution import call
from flows.pretrain import pretrain
from flows.products import Foundations
from flows.reward_model import reward_model
from infra.artifacts import Artifact
from tasks.configs.endpoint_model import EndpointModelConfig
from tasks.configs.import_model import ImportModelConfig
from tasks.configs.plan import Plan

Source = Artifact | ImportModelConfig | EndpointModelConfig


def prepare(plan: Plan, generator: Source | None, base: Source | None) -> Foundations:
    """Make or find the foundations. A plan with `pretraining` makes its own generator and base."""
    items, sources = stages.set_exam(plan), stages.read_sources(plan)
    human = None
    if plan.pretraining is not None:
        made = call(pretrain, plan, items)
        generator, base, human = made.generator, made.base, made.human
    elif generator is None or base is None:
        raise ValueError(f"a plan without pretraining needs both models, found generator={generator} base={base}")
    assert generator is not None and base is not None, (generator, base)
    first = generator if isinstance(generator, Artifact) else stages.import_model(generator, "import generator")
    start = base if isinstance(base, Artifact) else stages.import_model(base, "import base")
    judge = call(reward_model, plan, start, first, sources.attributes)
    return Foundations(first, start, judge, items, human, sources)
