"""Training beside TRL and transformers, in one run, on the real SmolLM2-135M-Instruct in fp32 on two threads.

Each measurement is a process of its own. All sides are given the same token ids, masks and batches, and move the same
weights with the same AdamW; tokens that count are those that are no padding. A peer's settings are searched first, on
every other example of the first step, which the peer sees sorted by length, so that it pads least.

    python benchmarks/training.py [--only …]            writes benchmarks/training.md where nothing is left out
    python benchmarks/training.py --ours [--only …]     a quick look at our side alone; nothing is written
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from generation import cpu_name
from training_data import examples, tokens_of

from infra.allocation import keeps_memory
from infra.offline_model import install_offline_model
from models.checkpoint import load_model
from models.gguf import import_gguf

HERE = Path(__file__).parent
TABLE = HERE / "training.md"
OURS, PEER = HERE / "training_side.py", HERE / "peers" / "trl_training.py"
THREADS = 2
MICROBATCHES = (2048, 512)
"""Tokens of ours: the training stages' default, and one for little memory."""
OPTIMIZER = {"learning_rate": 1e-5, "beta2": 0.95, "clip_norm": 1.0}
BETA = 0.1
PADDED = {"batch": 4}
TOLERANCE = 2e-3
"""Largest difference between two sides' losses; fp32 sums are associated differently, and AdamW's first steps follow
the sign of gradients that may be rounding noise."""
GIB = 2**30


@dataclass(frozen=True, eq=False)
class Work:
    name: str
    title: str
    kind: str
    peer: str
    per_step: int
    steps: int
    unit: str
    target: float
    """How many times the best peer's speed."""
    search: tuple[dict[str, Any], ...]


WORKS = (
    Work("sft", "SFT", "documents", "TRL SFTTrainer", 16, 3, "tokens", 1.5,
         ({"batch": 1}, {"batch": 2}, {"batch": 4}, {"batch": 4, "padding_free": True})),
    Work("dpo", "DPO, training alone", "pairs", "TRL DPOTrainer", 8, 3, "pairs", 3.0,
         ({"batch": 1}, {"batch": 2}, {"batch": 4})),
    Work("reward", "reward regression", "rated", "transformers Trainer", 8, 3, "rows", 1.5,
         ({"batch": 1}, {"batch": 2}, {"batch": 4})),
    Work("answers", "reward regression, two answers to a prompt", "rated_twice", "transformers Trainer", 8, 3, "rows",
         1.5, ({"batch": 1}, {"batch": 2}, {"batch": 4})),
)  # fmt: skip


@dataclass
class Measured:
    """One process's steps."""

    settings: dict[str, Any]
    amount: int
    """Of a step at the median, in the work's unit."""
    tokens: int
    seconds: float
    losses: list[float]
    peak_bytes: int
    gemm_rates: list[float]
    """FLOP/s of a large matrix product before and after."""
    flops: float
    """Model FLOP/s of the median step; of ours only."""

    @property
    def speed(self) -> float:
        return self.amount / self.seconds

    @property
    def described(self) -> str:
        return ", ".join(name if value is True else f"{name} {value}" for name, value in self.settings.items())


@dataclass(frozen=True)
class Results:
    """Of one kind of work."""

    ours: list[Measured]
    """The first is the one that is compared."""
    search: list[Measured]
    peers: list[Measured]
    """The best setting over all steps; a padded batch of 4 over two, for its memory: the first has no AdamW moments."""
    with_ours: list[Measured]
    """The peer's best with the allocator's settings of our jobs, which its users do not have."""


def spread(step: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Every other example of a step by length, the longest first: what a search is run on."""
    return by_length(step, kind)[::2]


def by_length(step: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return sorted(step, key=lambda example: -tokens_of(kind, example))


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = load_model(folder)[1]

    def measure(
        self, script: Path, work: Work, settings: dict[str, Any], steps: list[list[dict[str, Any]]]
    ) -> Measured:
        """Run `steps`, each a list of examples, in a process of its own."""
        job = {
            "model": str(self.folder), "kind": work.kind, "settings": settings, "optimizer": OPTIMIZER, "beta": BETA,
            "threads": THREADS, "per_step": len(steps[0]), "examples": [example for step in steps for example in step],
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            asked, answered = Path(folder) / "job.json", Path(folder) / "result.json"
            asked.write_text(json.dumps(job))
            command = [sys.executable, str(script), str(asked), str(answered)]
            keeps = keeps_memory() if script == OURS or settings.get("memory_kept") else {}
            subprocess.run(command, check=True, env=environment(folder) | keeps, stdout=subprocess.DEVNULL)
            found = json.loads(answered.read_text())
        measured = summed_up(work, settings, steps, found)
        print(f"{work.title}, {script.stem}: {measured}", flush=True)
        return measured

    def run(self, work: Work, ours_alone: bool) -> "Results":
        all_examples = examples(self.tokenizer, work.kind, work.steps * work.per_step)
        steps = [all_examples[start : start + work.per_step] for start in range(0, len(all_examples), work.per_step)]
        ours = [self.measure(OURS, work, {"microbatch_tokens": tokens}, steps) for tokens in MICROBATCHES]
        if ours_alone:
            return Results(ours, [], [], [])
        few = [spread(steps[0], work.kind)]
        search = [self.measure(PEER, work, settings, few) for settings in work.search]
        best = max(search, key=lambda measured: measured.speed).settings
        compared = [best] if best == PADDED else [best, PADDED]
        ordered = [by_length(step, work.kind) for step in steps]
        return Results(
            ours,
            search,
            [self.measure(PEER, work, compared[0], ordered)]
            + [self.measure(PEER, work, settings, ordered[:2]) for settings in compared[1:]],
            [self.measure(PEER, work, best | {"memory_kept": True}, ordered)],
        )


def environment(folder: str) -> dict[str, str]:
    """Alike for every side: no hub, no telemetry, nothing cached from an earlier run."""
    paths = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    fixed = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": folder, "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false",
             "PYTHONWARNINGS": "ignore"}  # fmt: skip
    return {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | fixed | {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(THREADS)}


def summed_up(
    work: Work, settings: dict[str, Any], steps: list[list[dict[str, Any]]], found: dict[str, Any]
) -> Measured:
    """The step of median speed stands for all; of an even number, the slower one of the middle."""
    tokens = [sum(tokens_of(work.kind, example) for example in step) for step in steps]
    amounts = tokens if work.unit == "tokens" else [len(step) for step in steps]
    speeds = [amount / seconds for amount, seconds in zip(amounts, found["seconds"], strict=True)]
    middle = speeds.index(statistics.median_low(speeds))
    flops = found.get("model_flops", [0.0] * len(steps))[middle] / found["seconds"][middle]
    return Measured(settings, amounts[middle], tokens[middle], found["seconds"][middle], found["losses"],
                    found["peak_bytes"], found["gemm_rates"], flops)  # fmt: skip


def table(results: dict[Work, Results]) -> str:
    text = [
        "# Training",
        "",
        f"`python benchmarks/training.py`, {datetime.date.today()}, {cpu_name()}, {os.cpu_count()} cores, {THREADS} "
        f"torch threads, {versions()}, SmolLM2-135M-Instruct in fp32, AdamW in fp32, no recomputation. Load average at "
        f"the end {os.getloadavg()[0]:.1f}.",
        "",
        "| work | trainer | settings | median step | s | per second | Ratchet is | target | peak, GiB | GFLOP/s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for work, found in results.items():
        text += [row(work, "Ratchet", one, "", "") for one in found.ours]
        for peer, target in [(found.peers[0], f"≥ {work.target}×"), *((peer, "") for peer in found.with_ours)]:
            text.append(row(work, work.peer, peer, f"**{found.ours[0].speed / peer.speed:.2f}×**", target))
    text += [
        "",
        "The last column is a matrix product of 2048 × 2048 × 2048, before and after in the same process: it says how "
        "busy the machine was. Steps are the same conversations on both sides; tokens are those that are no padding, "
        "and both answers of a pair count with its prompt. memory_kept gives the peer the allocator's settings that "
        "our training jobs run with (`infra/allocation.py`).",
    ]
    text += ["", *memory(results), "", *searches(results), "", *losses(results), "", *roofline(results)]
    return "\n".join(text) + "\n"


def row(work: Work, who: str, one: Measured, ratio: str, target: str) -> str:
    amount = f"{one.amount} {work.unit}" + ("" if work.unit == "tokens" else f", {one.tokens} tokens")
    rates = " / ".join(f"{rate / 1e9:.0f}" for rate in one.gemm_rates)
    return (
        f"| {work.title} | {who} | {one.described} | {amount} | {one.seconds:.1f} | {one.speed:.2f} | "
        f"{ratio} | {target} | {one.peak_bytes / GIB:.2f} | {rates} |"
    )


def memory(results: dict[Work, Results]) -> list[str]:
    text = [
        "Peak memory of the whole process, ours over a peer's at the same step (target: 0.6 of a padded batch 4):",
        "",
    ]
    for work, found in results.items():
        parts = [
            f"{ours.described} over {peer.described} ({peer.peak_bytes / GIB:.2f} GiB) "
            f"**{ours.peak_bytes / peer.peak_bytes:.2f}**"
            for ours in found.ours
            for peer in found.peers
        ]
        text.append(f"- {work.title}: {'; '.join(parts)}.")
    return text


def searches(results: dict[Work, Results]) -> list[str]:
    text = [
        "The peers' search, on every other example of the first step, sorted by length:",
        "",
        "| work | settings | useful tokens | s | per second | peak, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for work, found in results.items():
        text += [
            f"| {work.title} | {one.described} | {one.tokens} | {one.seconds:.1f} | {one.speed:.2f} | "
            f"{one.peak_bytes / GIB:.2f} |"
            for one in found.search
        ]
    return text


def losses(results: dict[Work, Results]) -> list[str]:
    """The check that both sides did the same work."""
    steps = max(work.steps for work in results)
    text = [
        f"Losses of the steps, which must agree within {TOLERANCE:g}:",
        "",
        "| work | " + " | ".join(f"step {number + 1}" for number in range(steps)) + " | agree |",
        "|---" * (2 + steps) + "|",
    ]
    for work, found in results.items():
        both = list(zip(found.ours[0].losses, found.peers[0].losses, strict=True))
        far = max(abs(ours - theirs) for ours, theirs in both)
        agree = f"yes, ≤ {far:.0e}" if far <= TOLERANCE else f"**no: {far:.1e}**"
        text.append(f"| {work.title} | {' | '.join(f'{a:.5f}, peer {b:.5f}' for a, b in both)} | {agree} |")
    return text


def roofline(results: dict[Work, Results]) -> list[str]:
    text = [
        "FLOP/s of the model in Ratchet's median step, over those of the large product in the same process, the better "
        "of before and after (target: 75 % for steps of 2k tokens and more). Counted is what forward and backward pass "
        "must make (`models/flops.py`): nothing for norms, activations, the optimizer and what is made again.",
        "",
    ]
    return text + [
        f"- {work.title}, {one.tokens} tokens, {one.described}: {one.flops / 1e9:.0f} GFLOP/s, "
        f"**{one.flops / max(one.gemm_rates):.0%}** of {max(one.gemm_rates) / 1e9:.0f}."
        for work, found in results.items()
        for one in found.ours
    ]


def versions() -> str:
    names = ("torch", "transformers", "trl", "accelerate")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[work.name for work in WORKS], default=[w.name for w in WORKS])
    parser.add_argument("--ours", action="store_true", help="our side alone; nothing is written")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        import_gguf(install_offline_model(), Path(folder))
        bench = Bench(Path(folder))
        for work in WORKS:
            if work.name in options.only:
                results[work] = bench.run(work, options.ours)
    if options.ours:
        print("\n".join(roofline(results)))
        return
    text = table(results)
    print(text)
    if len(results) == len(WORKS):
        TABLE.write_text(text)


if __name__ == "__main__":
    main()
