"""Small trainings that any number of processes can run, and what they must come to.

python parallel_cases.py FOLDER WORLD RANK     runs every case of that world and writes its results into FOLDER
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from models.batches import ExampleBatches
from models.checkpoint import write_weights
from models.config import ModelConfig
from models.decoder import Decoder, init_model
from models.forest import LEAST_SHARED
from models.lora import add_lora, merge_lora
from models.objectives import NextToken, Preference, PreferenceSettings, Regression
from models.optim import OptimizerSettings
from models.packing import Document, Pair, Rated
from models.parallel.gather import gathering, home
from models.parallel.plan import ParallelPlan
from models.parallel.split import parallelize
from models.parallel.workers import Workers
from models.reward import RewardModel
from models.train import Trainer

NEMOTRON = ModelConfig("nemotron", 50, 24, 48, 2, 4, 2, 6, rotary_fraction=1.0, init_std=0.1)
LLAMA = ModelConfig("llama", 51, 24, 40, 2, 4, 2, 6, tied_embeddings=True, init_std=0.1)
"""Its vocabulary cannot be split evenly."""
SETTINGS = OptimizerSettings(3e-3, weight_decay=0.1, clip_norm=0.5)
STEPS, SAVED_AT = 4, 2
SHARD_BYTES = 8_000


@dataclass(frozen=True)
class Case:
    name: str
    plan: ParallelPlan
    config: ModelConfig = NEMOTRON
    objective: str = "sft"
    recompute: Any = "none"
    state_dtype: Any = "fp32"
    adapted: str = ""
    """Low-rank additions, merged at the end: "lora" or "dora"."""


CASES = [
    Case("fsdp", ParallelPlan(shards=2)),
    Case("tensor", ParallelPlan(tensor=2)),
    Case("tensor-tied", ParallelPlan(tensor=2), LLAMA),
    Case("tensor-preference", ParallelPlan(tensor=2), NEMOTRON, "preference"),
    Case("fsdp-regression", ParallelPlan(shards=2), LLAMA, "regression"),
    Case("fsdp-lora", ParallelPlan(shards=2), LLAMA, adapted="lora"),
    Case("fsdp-dora", ParallelPlan(shards=2), NEMOTRON, adapted="dora"),
    Case("tensor-lora", ParallelPlan(tensor=2), LLAMA, adapted="lora"),
    Case("tensor-dora", ParallelPlan(tensor=2), NEMOTRON, adapted="dora"),
    Case("tensor-dora-gated", ParallelPlan(tensor=2), LLAMA, "preference", adapted="dora"),
    Case("fsdp-compact", ParallelPlan(shards=2), LLAMA, state_dtype="bf16"),
    Case("fsdp-4", ParallelPlan(shards=4), LLAMA, "preference"),
    Case("hybrid", ParallelPlan(replicas=2, shards=2), LLAMA, recompute="selective"),
    Case("product", ParallelPlan(shards=2, tensor=2), NEMOTRON, recompute="full"),
    Case("product-preference", ParallelPlan(shards=2, tensor=2), LLAMA, "preference"),
    Case("product-regression", ParallelPlan(shards=2, tensor=2), NEMOTRON, "regression"),
    Case("product-lora", ParallelPlan(shards=2, tensor=2), NEMOTRON, recompute="full", adapted="lora"),
    Case("product-dora", ParallelPlan(shards=2, tensor=2), LLAMA, "regression", adapted="dora"),
]

ADAPTED = next(case for case in CASES if case.name == "tensor-dora")


def make_trainer(case: Case, workers: Workers) -> Trainer[Any]:
    """The same model, examples and batches whatever the plan. Batches of 5 examples leave some process without one."""
    model = init_model(case.config, seed=0)
    reward = RewardModel(model)
    torch.nn.init.normal_(reward.head.weight, std=0.1, generator=torch.Generator().manual_seed(3))
    if case.adapted:
        add_lora(model, 4, 8.0, seed=1, magnitudes=case.adapted == "dora")
    rest: list[torch.nn.Module] = [reward.head] if case.objective == "regression" else []
    parallelize(model, rest, workers, dtype=torch.float32, recompute=case.recompute, offload=False)
    trained = reward if case.objective == "regression" else model
    examples, objective = OBJECTIVES[case.objective](model, reward, workers)
    plan = ExampleBatches(len(examples), 5, seed=4, steps=STEPS)
    settings = OptimizerSettings(**{**vars(SETTINGS), "state_dtype": case.state_dtype})
    return Trainer(trained, objective, examples, plan, settings, 40, workers)


def sft(model: Any, reward: RewardModel, workers: Workers) -> tuple[list[Any], Any]:
    return documents(12), NextToken(model, z_loss=1e-3, workers=workers)


def preference(model: Any, reward: RewardModel, workers: Workers) -> tuple[list[Any], Any]:
    starts, first, second = documents(6), documents(12)[6:], documents(18)[12:]
    pairs = [
        Pair(after(start, one), after(start, other), -30.0, -28.0, 2.0 + number % 3, 1.0)
        for number, (start, one, other) in enumerate(zip(starts, first, second, strict=True))
    ]
    return pairs, Preference(model, PreferenceSettings(beta=0.1, sft_weight=0.01), workers)


def regression(model: Any, reward: RewardModel, workers: Workers) -> tuple[list[Any], Any]:
    """Two answers to each prompt, most of which are long enough to be shared."""
    starts, answers = documents(6), documents(18)[6:]
    told = [after(starts[number // 2], answer) for number, answer in enumerate(answers)]
    labels = (1.0, 2.0, float("nan"), 0.5, 3.0)
    rated = [Rated(document.token_ids, labels, document.trained[0]) for document in told]
    assert sum(len(rated[number].prompt) >= LEAST_SHARED for number in range(0, 12, 2)) >= 3
    return rated, Regression(reward, workers)


OBJECTIVES = {"sft": sft, "preference": preference, "regression": regression}


def documents(count: int) -> list[Document]:
    generator = torch.Generator().manual_seed(9)
    lengths = torch.randint(5, 30, (count,), generator=generator).tolist()
    return [Document.of(torch.randint(50, (length,), generator=generator).tolist()) for length in lengths]


def after(start: Document, answer: Document) -> Document:
    tokens = [*start.token_ids, *answer.token_ids]
    return Document.of(tokens, [False] * len(start.token_ids) + [True] * len(answer.token_ids))


def train(trainer: Trainer[Any], until: int = STEPS) -> list[dict[str, float]]:
    reports = []
    for report in trainer.run():
        reports.append(report.metrics | {"grad_norm": report.grad_norm})
        if report.step == until:
            break
    return reports


def write(trainer: Trainer[Any], reports: list[dict[str, float]], folder: Path) -> None:
    """What was told, the weights in several small files, and logits of the weights as they are gathered again."""
    workers = trainer.workers
    if workers.rank == 0:
        folder.mkdir()
        (folder / "reports.json").write_text(json.dumps(reports))
    write_weights(trainer.model.state_dict(), folder, SHARD_BYTES, workers)
    logits = logits_of(gathering(decoder_of(trainer), workers), home(workers))
    if workers.rank == 0:
        save_file({"logits": logits}, folder / "logits.safetensors")


def decoder_of(trainer: Trainer[Any]) -> Any:
    return trainer.model.decoder if isinstance(trainer.model, RewardModel) else trainer.model


@torch.no_grad()
def logits_of(model: Decoder, device: torch.device | None = None) -> Tensor:
    return model(torch.arange(20, device=device)[None])


def main(folder: Path, world: int, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting-{world}", rank=rank, world_size=world)
    for case in CASES:
        if case.plan.world == world:
            trainer = make_trainer(case, Workers(case.plan, row_multiple=case.plan.tensor))
            reports = train(trainer)
            if case.adapted:
                merge_lora(decoder_of(trainer))
            write(trainer, reports, folder / case.name)
    resume(folder, world)
    dist.destroy_process_group()


def resume(folder: Path, world: int) -> None:
    """Four processes save in the middle and two go on from there; so do two that split every layer and two that do
    not."""
    if world == 4:
        save(CASES[0], ParallelPlan(shards=2, tensor=2), folder / "checkpoint")
    else:
        go_on(CASES[0], folder / "checkpoint", folder / "resumed")
        save(ADAPTED, ADAPTED.plan, folder / "adapted")
        go_on(ADAPTED, folder / "adapted", folder / "resumed-adapted")


def save(case: Case, plan: ParallelPlan, checkpoint: Path) -> None:
    trainer = make_trainer(case, Workers(plan, row_multiple=plan.tensor))
    train(trainer, SAVED_AT)
    trainer.save(checkpoint)()


def go_on(case: Case, checkpoint: Path, folder: Path) -> None:
    trainer = make_trainer(case, Workers(ParallelPlan(shards=2)))
    trainer.restore(checkpoint)
    reports = train(trainer)
    if case.adapted:
        merge_lora(decoder_of(trainer))
    write(trainer, reports, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
