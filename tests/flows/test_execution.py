"""Steps are addressed before anything runs; a job collects its steps and hands them to the runner."""

from pathlib import Path

from flows.execution import Planner, ray_job, running
from flows.runner import environment
from flows.steps import job_id, make_step
from infra.allocation import keeps_memory
from tasks.configs.training import SFTConfig
from tasks.configs.world import DocumentsConfig, HumanRowsConfig, TokenizerConfig

STORE = "/nowhere/store"


def test_an_address_follows_from_recipe_and_inputs() -> None:
    texts = make_step("documents", DocumentsConfig(documents=5), STORE, {}).artifact
    same = make_step("another label", DocumentsConfig(documents=5), STORE, {}).artifact
    other = make_step("documents", DocumentsConfig(documents=6), STORE, {}).artifact
    assert texts.fingerprint == same.fingerprint != other.fingerprint
    first = make_step("tokenizer", TokenizerConfig(), STORE, {"texts": (texts,)}).artifact
    second = make_step("tokenizer", TokenizerConfig(), STORE, {"texts": (other,)}).artifact
    assert first.fingerprint != second.fingerprint


def test_resources_do_not_change_an_address() -> None:
    plain = DocumentsConfig()
    moved = plain.model_copy(update={"resources": plain.resources.model_copy(update={"cpus": 1})})
    assert make_step("a", plain, STORE, {}).artifact == make_step("a", moved, STORE, {}).artifact


def test_a_job_runs_its_steps_in_order_when_its_block_ends() -> None:
    planner = Planner(STORE)
    with running(planner):
        with ray_job("corpus") as stage:
            texts = stage("documents", DocumentsConfig())
            stage("tokenizer", TokenizerConfig(), texts=(texts,))
            stage("human", HumanRowsConfig())
            assert planner.jobs == []
    ((name, steps),) = planner.jobs
    assert (name, [step.label for step in steps]) == ("corpus", ["documents", "tokenizer", "human"])


def test_a_job_that_raises_runs_nothing() -> None:
    planner = Planner(STORE)
    try:
        with running(planner), ray_job("corpus") as stage:
            stage("documents", DocumentsConfig())
            raise ValueError("stop")
    except ValueError:
        pass
    assert planner.jobs == []


def test_job_ids_depend_on_store_and_steps() -> None:
    step = make_step("documents", DocumentsConfig(), STORE, {})
    other = make_step("documents", DocumentsConfig(documents=6), STORE, {})
    ids = {job_id(STORE, [step]), job_id("s3://other", [step]), job_id(STORE, [other]), job_id(STORE, [step, other])}
    assert len(ids) == 4
    assert job_id(STORE, [step]) == job_id(STORE, [make_step("renamed", DocumentsConfig(), STORE, {})])


def test_jobs_that_train_keep_the_memory_that_they_free() -> None:
    texts = make_step("documents", DocumentsConfig(), STORE, {})
    sft = make_step("sft", SFTConfig(), STORE, {"base": texts.artifact, "dialogues": texts.artifact})
    writing, training = (environment(steps, 2, Path("work")) for steps in ([texts], [texts, sft]))
    assert training == writing | keeps_memory()
    assert not keeps_memory().keys() & writing.keys()
