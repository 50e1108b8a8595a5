"""Memory of a plan's training stages: shown by `ratchet plan`, and `ratchet run --dry-run` refuses what cannot fit."""

from pathlib import Path
from typing import Any

import psutil
import pytest

from deployments.known_models import LLAMA_3_1_8B, NEMOTRON_4_340B
from deployments.planned_memory import StageMemory, refuse_too_large, stage_memory
from infra.errors import InputError
from tasks.configs.base import Resources
from tasks.configs.training import RewardModelConfig, SFTConfig

NODE = ("--preset", "h100_node")
TRAINED = {"reward model", "code sft", "general sft", "dpo", "rpo 1", "rpo 2", "rpo 3"}


def small_rows(**more: Any) -> list[str]:
    """Resources of every training stage of a preset for GPUs."""
    values = {"recompute": "full", "microbatch_tokens": 8192} | more
    stages = ["reward_model", "code_sft", "general_sft", *(f"preference_tuning.{turn}" for turn in range(4))]
    return [word for s in stages for name, v in values.items() for word in ("--set", f"{s}.resources.{name}={v}")]


def memories(document: dict[str, Any]) -> dict[str, Any]:
    stages = document["iterations"][0]["stages"]
    return {stage["name"]: stage["memory"] for stage in stages if stage["memory"]}


def test_a_plan_shows_what_training_takes(ratchet: Any) -> None:
    found = memories(ratchet("plan", *NODE, *small_rows(), "--json").document)
    assert set(found) == TRAINED
    memory = found["general sft"]
    assert memory["on_gpus"] and memory["fits"] and memory["available"] == 80_000_000_000
    states = memory["weights"] + memory["gradients"] + memory["moments"]
    assert states == pytest.approx(16 * LLAMA_3_1_8B.num_parameters / 8, abs=8)
    assert memory["needed"] == states + memory["gathered"] + memory["activations"] + memory["passing"]


def test_a_plan_says_what_does_not_fit(ratchet: Any) -> None:
    small = small_rows(gpu_memory_gb=20)
    ended = ratchet("plan", *NODE, *small)
    assert ended.code == 0 and "of 20.0 GB a GPU: too much" in ended.out
    found = memories(ratchet("plan", *NODE, *small, "--json").document)
    assert not any(memory["fits"] for memory in found.values())


def test_a_dry_run_is_a_plan_that_starts_nothing(ratchet: Any, workspace: Path) -> None:
    planned, dry = ratchet("plan", *NODE, *small_rows()), ratchet("run", *NODE, *small_rows(), "--dry-run")
    assert dry.code == 0 and dry.out == planned.out and "of 80.0 GB a GPU" in dry.out
    assert not workspace.exists()
    document = ratchet("run", *NODE, *small_rows(), "--dry-run", "--json").document
    assert set(memories(document)) == TRAINED


def test_a_dry_run_refuses_what_cannot_fit(ratchet: Any, workspace: Path) -> None:
    small = small_rows(gpu_memory_gb=20)
    ended = ratchet("run", *NODE, *small, "--dry-run", "--json")
    assert ended.code == 2
    (line,) = ended.err.strip().splitlines()
    for words in (
        "GB on each GPU, which has (resources.gpu_memory_gb) 20.0 GB",
        "more stages do not fit",
        "resources.",
    ):
        assert words in line, line
    assert ended.document["error"]["message"] in line
    shown = ratchet("run", *NODE, *small, "--dry-run")
    assert shown.code == 2 and "too much" in shown.out and "20.0 GB" in shown.err
    assert not workspace.exists()


def test_heads_that_cannot_be_split_are_refused(ratchet: Any) -> None:
    ended = ratchet("plan", *NODE, *small_rows(tensor_parallel=3, workers=6))
    assert ended.code == 2 and "reward model: tensor_parallel is 3" in ended.err


def test_without_gpus_this_machine_is_what_there_is() -> None:
    memory = psutil.virtual_memory().total
    one = stage_memory("sft", SFTConfig(), LLAMA_3_1_8B)
    two = stage_memory("sft", SFTConfig(resources=Resources(workers=2)), LLAMA_3_1_8B)
    assert one is not None and two is not None
    assert not one.on_gpus and one.available == two.available == memory
    assert two.weights == one.weights / 2 and two.needed > one.needed, "both processes are on it"
    apart = stage_memory("sft", SFTConfig(resources=Resources(workers=2, nodes=2)), LLAMA_3_1_8B)
    assert apart is not None and apart.needed == two.needed / 2


def test_the_longest_row_counts() -> None:
    """An example longer than a microbatch has one of its own; longer than the model's context it is dropped."""
    short, long = (
        stage_memory("sft", SFTConfig(max_tokens=tokens, resources=Resources(microbatch_tokens=1024)), NEMOTRON_4_340B)
        for tokens in (512, 100_000)
    )
    assert short is not None and long is not None
    assert long.activations == 4 * short.activations


def test_what_trains_no_decoder_has_no_estimate() -> None:
    assert stage_memory("reward model", RewardModelConfig(mode="ridge"), LLAMA_3_1_8B) is None
    assert stage_memory("reward model", RewardModelConfig(mode="regression"), LLAMA_3_1_8B) is not None
    assert stage_memory("sft", SFTConfig(), None) is None


def test_offloading_leaves_the_gpu_what_passes() -> None:
    kept, away = (
        stage_memory("sft", SFTConfig(resources=Resources(gpus=8, offload=offload)), LLAMA_3_1_8B)
        for offload in (False, True)
    )
    assert kept is not None and away is not None
    states = kept.weights + kept.gradients + kept.moments
    assert away.needed == kept.needed - states and (kept.host, away.host) == (0, states)


def test_the_remedy_names_what_takes_most() -> None:
    def memory(weights: int, activations: int) -> StageMemory:
        return StageMemory(True, weights + activations, 50, False, 0, weights, 0, 0, 0, activations, 0)

    with pytest.raises(InputError, match="microbatch_tokens"):
        refuse_too_large({"sft": memory(10, 100)})
    with pytest.raises(InputError, match="offload=true"):
        refuse_too_large({"sft": memory(100, 10), "dpo": memory(60, 10)})
    refuse_too_large({})
