"""`ratchet plan`: every preset offline, what is cached, what nobody can know yet; nothing is started or written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.known_models import KNOWN_MODELS
from deployments.plans import load_plan
from deployments.presets import PRESETS
from flows.bookkeeping import lineage_of
from flows.execution import Planner, running
from flows.foundations import prepare
from flows.iteration import iteration
from flows.steps import Step
from infra.output import Outcome, Output
from infra.records import IterationRecord, Records, VerdictRecord
from infra.storage import Storage
from tasks.world.documents import run as write_documents
from tests.own_texts import write_example

TINY = ("plan", "--preset", "tiny", "--json")


def states(document: dict[str, Any], number: int = 1) -> dict[str, str]:
    """By the stage's name."""
    return {stage["name"]: stage["state"] for stage in document["iterations"][number - 1]["stages"]}


@pytest.fixture
def chosen(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """The arguments that choose a preset; one that begins with a user's texts takes the documented file."""

    def arguments(name: str) -> tuple[str, ...]:
        needs_texts = name == "nemotron_4_15b"
        return ("--config", str(write_example(tmp_path / "data"))) if needs_texts else ("--preset", name)

    return arguments


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_plans_offline_and_starts_nothing(ratchet: Any, workspace: Path, chosen: Any, name: str) -> None:
    ended = ratchet("plan", *chosen(name), "--json")
    assert ended.code == 0, ended.err
    document = ended.document
    found = states(document)
    assert document["preset"] == name and document["totals"]["cached"] == 0
    assert {"evaluation set", "reward model", "prompts", "dpo", "rpo 3", "gate", "report"} <= set(found)
    assert sum(document["totals"][state] for state in ("missing", "unknown")) == len(
        document["iterations"][0]["stages"]
    )
    assert not workspace.exists(), "a plan must not make a workspace"


@pytest.mark.parametrize("name", ["h100_node", "nemotron_4_340b"])
def test_models_that_are_not_fetched_are_said_to_be(ratchet: Any, name: str) -> None:
    document = ratchet("plan", "--preset", name, "--json").document
    assert document["lineage"] is None
    assert [model["state"] for model in document["models"]] == ["not fetched yet"] * 2
    found = states(document)
    assert found["evaluation set"] == "missing", "it depends on no model"
    assert {found[stage] for stage in ("import generator", "reward model", "prompts", "gate")} == {"unknown"}
    assert all(s["artifact"] is None for s in document["iterations"][0]["stages"] if s["state"] == "unknown")


def test_a_plan_from_texts_of_one_s_own(ratchet: Any, chosen: Any) -> None:
    """The vocabulary is a setting, so that sizes are known before there is a tokenizer."""
    document = ratchet("plan", *chosen("nemotron_4_15b"), "--json").document
    assert [model["parameters"] for model in document["models"]] == [15_628_775_424] * 2
    stages = {stage["name"]: stage for stage in document["iterations"][0]["stages"]}
    assert stages["pretrain"]["tokens"] == pytest.approx(8e12, rel=1e-5) and stages["pretrain"]["gpus"] == 128
    assert stages["continued pretraining"]["tokens"] == pytest.approx(1e12, rel=1e-5)
    assert {"documents english", "tokens code", "continued tokens questions", "human rows"} <= stages.keys()
    assert all(stage["memory"]["fits"] for stage in stages.values() if stage["memory"])


def test_a_plan_without_the_texts_names_what_is_missing(ratchet: Any, workspace: Path) -> None:
    ended = ratchet("plan", "--preset", "nemotron_4_15b", "--json")
    assert ended.code == 2 and "--set pretraining.documents.code.path=" in ended.err
    assert not workspace.exists()


@pytest.mark.parametrize("command", [("plan",), ("run", "--dry-run")])
def test_a_text_that_is_not_there_is_named_by_its_setting(
    ratchet: Any, chosen: Any, tmp_path: Path, command: Any
) -> None:
    arguments = chosen("nemotron_4_15b")
    (tmp_path / "data" / "questions.jsonl").unlink()
    ended = ratchet(*command, *arguments, "--json")
    assert ended.code == 2 and "pretraining.continued_documents.questions: " in ended.err, ended.err


def test_the_paper_s_sizes(ratchet: Any) -> None:
    document = ratchet("plan", "--preset", "nemotron_4_340b", "--json").document
    generator, base = document["models"]
    assert generator["parameters"] == base["parameters"] == 341_029_195_776
    assert generator["weights_bytes"] == 341_029_195_776 // 8 == pytest.approx(42.6e9, rel=1e-3), "FP8 on eight GPUs"
    assert generator["cache_token_bytes"] == 2 * 96 * 192 * 2, "one of eight key/value heads on each"
    assert 390_000 < generator["cache_tokens"] < (72e9 - 42.6e9) / 73_728
    assert base["training_bytes"] == 16 * 341_029_195_776 // 128 < 80e9
    assert KNOWN_MODELS["hf:meta-llama/Llama-3.1-8B"].num_parameters == 8_030_261_248


def test_the_paper_s_recipe() -> None:
    plan = load_plan("nemotron_4_340b", None, ())
    assert plan.code_sft is not None
    for sft, epochs in ((plan.code_sft, 1), (plan.general_sft, 3)):
        assert (sft.epochs, sft.global_batch_size, sft.schedule) == (epochs, 128, "constant")
        assert 1e-7 <= sft.learning_rate <= 5e-7
    dpo, *rounds = plan.preference_tuning
    assert (dpo.objective, dpo.epochs, dpo.global_batch_size) == ("dpo", 1, 256)
    assert 3e-8 <= dpo.learning_rate <= 3e-7 and 3e-4 <= dpo.beta <= 3e-3 and 1e-5 <= dpo.sft_weight <= 1e-3
    assert len(rounds) == 3
    for turn in rounds:
        assert (turn.objective, turn.learning_rate, turn.eta, turn.sft_weight) == ("rpo", 3e-7, 1.0, 1e-5)
        assert 1e-3 <= turn.beta <= 1
    reward = plan.reward_model
    assert (reward.mode, reward.epochs, reward.global_batch_size, reward.learning_rate) == ("regression", 2, 128, 7e-7)
    assert (plan.dpo_pairs.max_pairs, plan.rpo_pairs.max_pairs, plan.general_mix.code_share) == (160_000, 300_000, 0.02)


def test_what_is_there_is_cached_with_the_time_it_took(ratchet: Any, workspace: Path) -> None:
    assert ratchet(*TINY, "--set", "pretraining.documents.documents=50").code == 0
    plan = load_plan("tiny", None, ["pretraining.documents.documents=50"])
    steps = walked(plan, str(workspace / "store"))
    make(steps["documents"], workspace, lambda output: write_documents(plan.pretraining.documents, output))  # type: ignore[union-attr]
    document = ratchet(*TINY, "--set", "pretraining.documents.documents=50").document
    stages = {stage["name"]: stage for stage in document["iterations"][0]["stages"]}
    assert (stages["documents"]["state"], stages["documents"]["last_wall_s"]) == ("cached", 12.5)
    assert stages["continued documents"]["state"] == "missing"
    assert stages["continued documents"]["last_wall_s"] == 12.5, "another stage of the same name"
    assert stages["pretrain"]["last_wall_s"] is None, "nothing is invented"
    assert document["totals"] | {"never_timed": 0} == {
        "cached": 1, "missing": len(stages) - 1, "damaged": 0, "unknown": 0, "last_wall_s": 12.5, "gpu_hours": 0.0,
        "never_timed": 0,
    }  # fmt: skip
    other = ratchet(*TINY, "--set", "pretraining.documents.documents=51").document
    assert states(other)["documents"] == "missing"
    part = steps["documents"].artifact.folder() / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    damaged = ratchet(*TINY, "--set", "pretraining.documents.documents=50").document
    assert states(damaged)["documents"] == "damaged" and damaged["totals"]["damaged"] == 1


def test_a_later_iteration_is_known_once_the_verdict_before_it_fell(ratchet: Any, workspace: Path) -> None:
    document = ratchet(*TINY, "--iterations", "2").document
    second = document["iterations"][1]
    assert second["generator"] is None
    assert set(states(document, 2).values()) == {"unknown", "missing"} and states(document, 2)["report"] == "missing"
    plan, store = load_plan("tiny", None, ()), Storage.open(workspace / "store")
    steps, records = walked(plan, store.uri), Records(store, "tiny", lineage_of(plan, ()))
    assert records.key.endswith(document["lineage"])
    first, candidate = steps["teacher"].artifact, steps["rpo 3"].artifact
    given = {"generator": first, "base": steps["continued pretraining"].artifact}
    records.put("iteration", 1, IterationRecord(number=1, lineage="x", plan_digest="d", **given))
    verdict = {"candidate": candidate, "generator": first, "next_generator": candidate}
    records.put("verdict", 1, VerdictRecord(number=1, verdict="promote", **verdict))  # type: ignore[arg-type]
    document = ratchet(*TINY, "--iterations", "3").document
    second, third = document["iterations"][1:]
    assert second["generator"] == candidate.uri and third["generator"] is None
    assert set(states(document, 2).values()) == {"missing"}


def test_controls_do_not_wait_for_a_verdict(ratchet: Any) -> None:
    """Two generators write different data; what only the base and human rows make is the same in every iteration."""
    document = ratchet(*TINY, "--iterations", "2").document
    assert states(document, 2)["control: human only"] == "missing"
    assert states(document, 2)["general sft"] == "unknown"


def test_fresh_is_another_lineage(ratchet: Any) -> None:
    lineages = {ratchet(*TINY, *more).document["lineage"] for more in ((), (), ("--fresh",), ("--fresh",))}
    assert len(lineages) == 3


def test_tables_for_people(ratchet: Any) -> None:
    ended = ratchet("plan", "--preset", "tiny", "--iterations", "2")
    assert ended.code == 0
    for words in ("continued pretraining", "missing", "written by not known yet", "to do", "no LLM judge"):
        assert words in ended.out, ended.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--iterations", "0"], "--iterations 0"),
        (["--preset", "tinny"], "did you mean 'tiny'"),
        (["--preset", "smollm", "--set", "generator=/no/such/model"], "no model at '/no/such/model'"),
        (["--preset", "smollm", "--set", "generator=models:/a/1"], "no MLflow server"),
    ],
)
def test_bad_input_ends_with_2(ratchet: Any, arguments: list[str], words: str) -> None:
    ended = ratchet("plan", *arguments, "--json")
    assert ended.code == 2 and words in ended.err and words in ended.document["error"]["message"]


def walked(plan: Any, store: str) -> dict[str, Step]:
    """Steps of foundations and first iteration, as `ratchet run` addresses them."""
    planner = Planner(store)
    with running(planner):
        given = prepare(plan, None, None)
        iteration.fn(plan.for_iteration(1), 1, given.generator, given)
    return {step.label: step for _, steps in planner.jobs for step in steps}


def make(step: Step, workspace: Path, run: Callable[[Output], Outcome]) -> None:
    output = Output(step.artifact, step.artifact.storage(), lambda event: None, workspace)
    output.commit(
        run(output), recipe=step.config.recipe(), inputs={}, version=step.config.version, label=step.label,
        device="cpu", wall_s=12.5, code_version="test",
    )  # fmt: skip
