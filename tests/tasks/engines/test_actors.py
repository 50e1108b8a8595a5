"""Engines in Ray actors: the same answers as one engine's, also when engines are killed in the middle of their work."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from infra.artifacts import Artifact
from infra.errors import InputError, StageFailed
from infra.output import Outcome, Output
from infra.storage import Storage
from models.checkpoint import load_model, save_model
from models.config import ModelConfig
from models.decoder import init_model
from models.engine import Constraint, Engine, SamplingParams
from models.tokenizer import Tokenizer
from tasks.configs.base import EngineResources
from tasks.engines.actors import EngineFleet

TWO = EngineResources(count=2, cpus=1)
LONG = [SamplingParams(max_tokens=150 + n, seed=n) for n in range(24)]
PROMPTS = [[9 + n, 20, 30 + n % 5] for n in range(24)]
TURNS = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Artifact:
    folder = tmp_path_factory.mktemp("fleet")
    store = Storage.open(folder / "store")
    artifact = Artifact(store=store.uri, stage="model", fingerprint="0" * 32, kind="checkpoint")
    output = Output(artifact, store, lambda event: None, folder)
    shape = {"hidden_size": 48, "intermediate_size": 80, "num_layers": 4, "num_heads": 6, "num_kv_heads": 2,
             "head_dim": 16, "init_std": 0.2, "max_positions": 1024}  # fmt: skip
    save_model(init_model(ModelConfig("llama", tokenizer.vocab_size, **shape), 0), tokenizer, folder / "model")
    output.write_folder(folder / "model")
    return output.commit(
        Outcome(), recipe={}, inputs={}, version=1, label="model", device="test", wall_s=0.0, code_version="test"
    )


@pytest.fixture(scope="module")
def whole(model: Artifact) -> Engine:
    return Engine(*load_model(model.folder()))


@pytest.fixture(scope="module")
def fleet(model: Artifact) -> Iterator[EngineFleet]:
    found = EngineFleet(model, TWO, batch_rows=8)
    yield found
    found.close()
    ray.shutdown()


def test_answers_are_those_of_one_engine_in_order(fleet: EngineFleet, whole: Engine) -> None:
    prompts = [*PROMPTS, TURNS, [9] * 2000, []]
    params = [*LONG, *[SamplingParams(max_tokens=9, n=3, logprobs=2)] * 3]
    told: list[tuple[int, int, int]] = []
    assert fleet.generate(prompts, params, lambda *values: told.append(values)) == whole.generate(prompts, params)
    assert len(told) > 2 and [entry[0] for entry in told] == sorted(entry[0] for entry in told)
    assert told[-1][:2] == (24 + 9, 24 + 9) and {entry[1] for entry in told} == {24 + 9}
    assert fleet.generate([]) == [] and fleet.generate([TURNS])[0].prompt_tokens > 3


def test_scores_are_those_of_one_engine(fleet: EngineFleet, whole: Engine) -> None:
    continuations = [[40 + n, 41, 42][: 1 + n % 3] for n in range(len(PROMPTS))]
    assert fleet.logprobs(PROMPTS, continuations) == whole.logprobs(PROMPTS, continuations)


def test_two_fleets_take_turns(model: Artifact, fleet: EngineFleet, whole: Engine) -> None:
    """As two responders of one stage do: the cluster has no room for both at once."""
    other, greedy = EngineFleet(model, EngineResources(count=2), batch_rows=4), SamplingParams(max_tokens=5)
    expected = whole.generate(PROMPTS[:4], greedy)
    for one in (other, fleet, other):
        assert one.generate(PROMPTS[:4], greedy) == expected
    other.close()


def test_what_an_engine_refuses_is_told_as_it_would(fleet: EngineFleet) -> None:
    with pytest.raises(ValueError, match="constraint regex"):
        fleet.generate([[9]], SamplingParams(constraint=Constraint("regex", "[a")))
    with pytest.raises(ValueError, match="cannot be scored"):
        fleet.logprobs([[]], [[5]])


def kill_when_busy(fleet: EngineFleet, times: int) -> threading.Thread:
    """Kill the fleet's first engine, and whatever takes its place, in the middle of its work."""

    def work() -> None:
        killed: list[Any] = []
        while len(killed) < times:
            time.sleep(0.1)
            if (engine := fleet._engines[0]) not in killed:
                ray.get(engine.ready)
                time.sleep(0.2)
                ray.kill(engine.actors[-1])
                killed.append(engine)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_killed_engines_part_is_done_again_and_only_that(fleet: EngineFleet, whole: Engine) -> None:
    expected = whole.generate(PROMPTS, LONG)
    before = list(fleet._engines)
    thread = kill_when_busy(fleet, 1)
    assert fleet.generate(PROMPTS, LONG) == expected
    thread.join()
    assert fleet._engines[0] is not before[0], "the engine was not killed in time: this shows nothing"
    assert fleet._engines[1] is before[1], "the other engine went on"


def test_more_engines_than_the_cluster_can_hold_are_refused_at_once(model: Artifact, fleet: EngineFleet) -> None:
    with pytest.raises(InputError, match="64 engines of 2 CPU each need 128; the cluster has"):
        EngineFleet(model, EngineResources(count=64, cpus=2), batch_rows=8)


def test_a_part_that_kills_every_engine_fails_the_stage(model: Artifact, fleet: EngineFleet) -> None:
    fleet.close()  # its cores are wanted
    lone = EngineFleet(model, EngineResources(count=1), batch_rows=8)
    endless = [SamplingParams(max_tokens=900, n=16)] * 4
    thread = kill_when_busy(lone, 3)
    with pytest.raises(StageFailed, match="an engine died 3 times at the same part"):
        lone.generate([[9, 10]] * 4, endless)
    thread.join(1)
    lone.close()


def test_a_model_in_two_parts_answers_as_in_one_also_when_a_part_dies(
    model: Artifact, fleet: EngineFleet, whole: Engine
) -> None:
    fleet.close()
    parts = EngineFleet(model, EngineResources(count=1, tensor_parallel=2), batch_rows=8)
    greedy = [SamplingParams(temperature=0, max_tokens=150, logprobs=0) for _ in PROMPTS]
    expected = whole.generate(PROMPTS, greedy)
    for kills in (0, 1):
        thread = kill_when_busy(parts, kills)
        found = parts.generate(PROMPTS, greedy)
        thread.join()
        for mine, theirs in zip(expected, found, strict=True):
            assert mine.token_ids == theirs.token_ids
            for one, other in zip(mine.outputs[0].logprobs or (), theirs.outputs[0].logprobs or (), strict=True):
                assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    with pytest.raises(
        InputError, match="tensor_parallel: a model with num_heads 6 cannot be split into 4 equal parts"
    ):
        EngineFleet(model, EngineResources(count=1, tensor_parallel=4), batch_rows=8)
    parts.close()


def test_an_engine_that_cannot_be_opened_says_why(model: Artifact, fleet: EngineFleet) -> None:
    """vLLM is no dependency of ours."""
    fleet.close()
    with pytest.raises(InputError, match="the engine vllm cannot be opened: No module named 'vllm'"):
        EngineFleet(model, EngineResources(count=1, kind="vllm"), batch_rows=8)
