"""One turn of the wheel: the generator writes, judges score, the base learns, the gate decides (paper, section 3)."""

from prefect import flow

from flows import stages
from flows.products import Exam, Foundations, Trained, Turn
from infra.artifacts import Artifact
from tasks.configs.plan import Plan


@flow(name="iteration", flow_run_name="iteration {number}", validate_parameters=False)
def iteration(plan: Plan, number: int, generator: Artifact, given: Foundations) -> Turn:
    """The candidate that the base becomes when it learns from what `generator` writes, and the gate's verdict on it."""
    prompts = stages.write_prompts(plan, generator, given.items, given.sources)
    dialogues = stages.write_dialogues.submit(plan, generator, prompts, given.reward_model)
    code = stages.evolve_code.submit(plan, generator)
    responses = stages.respond.submit(plan, generator, given.base, prompts)
    data = {"prompts": prompts, "dialogues": dialogues.result(), "responses": responses.result()}
    if (evolved := code.result()) is not None:
        data["code"] = evolved
    sets = stages.judge_and_mix(plan, given, generator, data)
    baseline = stages.examine_generator(plan, given, generator)
    exam = Exam(given.items, given.reward_model, baseline)

    steps: dict[str, Trained] = {}
    candidate = given.base
    for phase, rows in (("code sft", sets.code), ("general sft", sets.general)):
        if rows is not None:
            steps[phase] = stages.supervise(plan, phase, candidate, rows, exam)
            candidate = steps[phase].model
    for label, turn in zip(plan.turn_labels(), plan.preference_tuning, strict=True):  # DPO, RPO, RPO, RPO
        pairs = sets.dpo if turn.objective == "dpo" else sets.rpo
        steps[label] = stages.tune(plan, label, candidate, pairs, exam)
        candidate = steps[label].model

    examined = stages.gate(plan, candidate, generator, exam)
    controls = stages.run_controls(plan, given, exam, {"general": sets.general})
    data |= {"general mix": sets.general, "dpo pairs": sets.dpo, "rpo pairs": sets.rpo}
    return Turn(generator, given.base, data, baseline, steps, examined, controls)
