"""Ratchet's side of benchmarks/training.py, in a process of its own: `PYTHON FILE JOB RESULT`.

A job is {"model": folder, "kind": what is trained, "settings": {…}, "optimizer": {…}, "per_step": n, "examples": […]};
the result holds the seconds and the loss of each step and the most memory that the process held.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import gemm_rate, peak_bytes

from models.checkpoint import load_model
from models.decoder import Decoder
from models.flops import exact_flops
from models.objectives import NextToken, Objective, Preference, PreferenceSettings, Regression, pair_logprobs
from models.optim import OptimizerSettings
from models.packing import Document, Pair, Rated
from models.reward import RewardModel
from models.train import Trainer


@dataclass(frozen=True)
class InOrder:
    """Every side takes the examples as they stand."""

    examples: int
    per_step: int

    @property
    def steps(self) -> int:
        return self.examples // self.per_step

    def batch(self, step: int) -> list[int]:
        return [*range(step * self.per_step, (step + 1) * self.per_step)]


def objective_of(job: dict[str, Any], decoder: Decoder) -> tuple[torch.nn.Module, Objective[Any], list[Any]]:
    """What is trained, for what, and on what."""
    examples = job["examples"]
    if job["kind"] == "documents":
        documents = [Document(tuple(e["token_ids"]), tuple(e["trained"])) for e in examples]
        return decoder, NextToken(decoder), documents
    if job["kind"].startswith("rated"):
        model = RewardModel(decoder)
        rated = [Rated(tuple(e["token_ids"]), tuple(e["labels"]), e["prompt_tokens"]) for e in examples]
        return model, Regression(model), rated
    pairs = [Pair(*(branch(e["prompt"], e[side]) for side in ("chosen", "rejected"))) for e in examples]
    settings = PreferenceSettings("dpo", beta=job["beta"])
    return decoder, Preference(decoder, settings), with_reference(decoder, pairs)


def branch(prompt: Sequence[int], response: Sequence[int]) -> Document:
    return Document.of([*prompt, *response], [False] * len(prompt) + [True] * len(response))


@torch.no_grad()
def with_reference(model: Decoder, pairs: Sequence[Pair]) -> list[Pair]:
    """The model that training starts from is the reference."""
    known = [[float(value) for value in pair_logprobs(model, [pair])] for pair in pairs]
    return [
        replace(p, reference_chosen=chosen, reference_rejected=rejected)
        for p, (chosen, rejected) in zip(pairs, known, strict=True)
    ]


def main(job_file: str, result_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    torch.set_num_threads(job["threads"])
    decoder, _ = load_model(job["model"])
    model, objective, examples = objective_of(job, decoder)
    rates = [gemm_rate()]
    settings = OptimizerSettings(**job["optimizer"])
    plan = InOrder(len(examples), job["per_step"])
    trainer = Trainer(model, objective, examples, plan, settings, job["settings"]["microbatch_tokens"])
    reports = [*trainer.run()]
    peak = peak_bytes()
    rates.append(gemm_rate())
    result = {
        "seconds": [report.seconds for report in reports],
        "losses": [report.metrics["loss"] for report in reports],
        "peak_bytes": peak,
        "gemm_rates": rates,
        "model_flops": [exact_flops(decoder.config, report.work) for report in reports],
    }
    Path(result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
