"""The five-attribute reward model, trained from the base (paper, section 3.1)."""

from prefect import flow

from flows import stages
from infra.artifacts import Artifact
from tasks.configs.plan import Plan


@flow(name="reward model", flow_run_name="reward model", validate_parameters=False)
def reward_model(plan: Plan, base: Artifact, generator: Artifact, labelled: tuple[Artifact, ...]) -> Artifact:
    """HelpSteer2's rows where the plan names them, else answers damaged on purpose; then the regression."""
    return stages.train_reward_model(plan, base, generator, labelled)
