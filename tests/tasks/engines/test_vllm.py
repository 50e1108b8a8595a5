"""The real vLLM, in an environment of its own, opens our folders and gives our engine's answers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from infra.artifacts import Artifact
from infra.vllm_environment import install_vllm
from models.checkpoint import load_model, save_model
from models.config import ModelConfig
from models.decoder import init_model
from models.engine import Constraint, Engine, SamplingParams
from models.tokenizer import Tokenizer
from tasks.configs.base import EngineResources
from tasks.engines.actors import EngineFleet

SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_CPU_OMP_THREADS_BIND": "0-1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ASKED = [
    [{"role": "user", "content": text}]
    for text in ("Name three teas.", "Why is the sky blue?", "Write a haiku.", "Count to five.", "Name a river.")
]
PARAMS = [
    SamplingParams(temperature=0, max_tokens=24, logprobs=2),
    SamplingParams(temperature=0, max_tokens=60, stop=["the"]),
    SamplingParams(temperature=0, max_tokens=40, constraint=Constraint("regex", "[a-z ]{5,20}")),
    SamplingParams(temperature=0, max_tokens=40, repetition_penalty=1.3),
    SamplingParams(temperature=0, max_tokens=9, constraint=Constraint.choices(["Rhine", "Nile"])),
]


@pytest.fixture(autouse=True, scope="module")
def settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        yield
    ray.shutdown()


def open_vllm(give: Callable[..., Artifact], folder: Path) -> EngineFleet:
    model = give("model", lambda output: output.write_folder(folder), kind="checkpoint")
    resources = EngineResources(count=1, cpus=2, kind="vllm", python=str(install_vllm(on_gpus=False)))
    return EngineFleet(model, resources, batch_rows=16)


def test_a_real_models_answers_and_scores_are_our_engines(smollm_folder: Path, give: Callable[..., Artifact]) -> None:
    ours, theirs = Engine(*load_model(smollm_folder)), open_vllm(give, smollm_folder)
    expected, found = ours.generate(ASKED, PARAMS), theirs.generate(ASKED, PARAMS)
    for ask, one, other in zip(ASKED, expected, found, strict=True):
        assert one.outputs[0].token_ids == other.outputs[0].token_ids, ask
        assert (one.text, one.finish_reason, one.prompt_tokens) == (
            other.text,
            other.finish_reason,
            other.prompt_tokens,
        )
    pairs = zip(expected[0].outputs[0].logprobs or (), found[0].outputs[0].logprobs or (), strict=True)
    for mine, its in pairs:
        assert mine.logprob == pytest.approx(its.logprob, abs=1e-3)
        assert [token for token, _ in mine.top] == [token for token, _ in its.top]
    prompts = [ours.encode(ask) for ask in ASKED[:3]]
    scored = theirs.logprobs(prompts, [[5, 6], [7], [8, 9, 10]])
    for mine, its in zip(ours.logprobs(prompts, [[5, 6], [7], [8, 9, 10]]), scored, strict=True):
        assert mine == pytest.approx(its, abs=1e-3)
    (sampled,) = theirs.generate(ASKED[:1], SamplingParams(max_tokens=8, n=3, seed=1))
    assert len({output.token_ids for output in sampled.outputs}) == 3
    long = theirs.generate([[5] * 9000, ASKED[0]], SamplingParams(max_tokens=2))
    assert "do not fit" in str(long[0].error) and long[1].error is None
    theirs.close()


def test_a_nemotron_that_we_wrote_is_read_alike(
    tokenizer: Tokenizer, give: Callable[..., Artifact], tmp_path: Path
) -> None:
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2,
             "head_dim": 64, "rotary_fraction": 0.5, "init_std": 0.1, "max_positions": 512}  # fmt: skip
    model = init_model(ModelConfig("nemotron", tokenizer.vocab_size, eos_ids=(2,), **shape), 0)
    save_model(model, tokenizer, tmp_path / "model")
    ours, theirs = Engine(*load_model(tmp_path / "model")), open_vllm(give, tmp_path / "model")
    prompts = [[9 + n, 20, 30 + n] for n in range(6)]
    params = SamplingParams(temperature=0, max_tokens=30)
    assert [r.token_ids for r in ours.generate(prompts, params)] == [
        r.token_ids for r in theirs.generate(prompts, params)
    ]
    theirs.close()
