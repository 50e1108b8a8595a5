"""TRL's and transformers' side of benchmarks/training.py, in a process of its own: `PYTHON FILE JOB RESULT`.

The jobs are those of benchmarks/training_side.py; token ids and masks are given, so that no tokenizer decides anything.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from machine import gemm_rate, peak_bytes
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

logging.set_verbosity_error()


class Clock(TrainerCallback):
    """Seconds from a step's first forward pass to its last update, and the loss that the trainer logs for it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.started = 0.0

    def on_step_begin(self, *args: Any, **others: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *args: Any, **others: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **others: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


class TokenisedDPO(DPOTrainer):
    """Takes token ids as they are."""

    def _prepare_dataset(self, dataset: Dataset, *others: Any) -> Dataset:
        return dataset


def arguments(job: dict[str, Any], folder: str) -> dict[str, Any]:
    """What the three trainers' settings have in common."""
    batch, optimizer = job["settings"]["batch"], job["optimizer"]
    return {
        "output_dir": folder,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": job["per_step"] // batch,
        "max_steps": len(job["examples"]) // job["per_step"],
        "learning_rate": optimizer["learning_rate"],
        "adam_beta2": optimizer["beta2"],
        "max_grad_norm": optimizer["clip_norm"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
    }


def sft(job: dict[str, Any], folder: str, model: Any, tokenizer: Any) -> Trainer:
    """Labels only where the assistant spoke: what `assistant_only_loss` makes of a template with generation marks."""
    rows = []
    for example in job["examples"]:
        trained = set(example["trained"])
        labels = [token if place in trained else -100 for place, token in enumerate(example["token_ids"])]
        rows.append({"input_ids": example["token_ids"], "labels": labels})
    free = job["settings"].get("padding_free", False)
    settings = SFTConfig(**arguments(job, folder), max_length=None, padding_free=free)
    return SFTTrainer(model, settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def dpo(job: dict[str, Any], folder: str, model: Any, tokenizer: Any) -> Trainer:
    rows = [{f"{part}_ids": example[part] for part in ("prompt", "chosen", "rejected")} for example in job["examples"]]
    settings = DPOConfig(
        **arguments(job, folder), max_length=None, beta=job["beta"], precompute_ref_log_probs=True,
        precompute_ref_batch_size=1,
    )  # fmt: skip
    return TokenisedDPO(model, None, settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def regression(job: dict[str, Any], folder: str, model: Any, tokenizer: Any) -> Trainer:
    model.score = torch.nn.Linear(model.config.hidden_size, model.config.num_labels)  # with a bias, from zero, as ours
    torch.nn.init.zeros_(model.score.weight)
    torch.nn.init.zeros_(model.score.bias)
    rows = [{"input_ids": example["token_ids"], "labels": example["labels"]} for example in job["examples"]]
    trainer = Trainer(
        model,
        TrainingArguments(**arguments(job, folder)),
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=Dataset.from_list(rows),
    )
    trainer.model_accepts_loss_kwargs = False  # its loss is a microbatch's mean, which only so is averaged over them
    return trainer


def load(job: dict[str, Any], tokenizer: Any) -> Any:
    if not job["kind"].startswith("rated"):
        return AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    labels = len(job["examples"][0]["labels"])
    return AutoModelForSequenceClassification.from_pretrained(
        job["model"], dtype=torch.float32, num_labels=labels, problem_type="regression",
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def unused_pad_token(tokenizer: Any, examples: list[dict[str, Any]]) -> str:
    """transformers reads a sequence at its last token that is not padding, so padding must not occur in it."""
    used = {token for example in examples for token in example["token_ids"]}
    special = tokenizer.added_tokens_decoder
    free = [token.content for token_id, token in special.items() if token_id not in used]
    if not free:
        raise SystemExit(
            f"each of the special tokens {sorted(special)} occurs in the examples; one must be left to pad"
        )
    return free[0]


def main(job_file: str, result_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    torch.set_num_threads(job["threads"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    if job["kind"].startswith("rated"):
        tokenizer.pad_token = unused_pad_token(tokenizer, job["examples"])
    make = {"documents": sft, "pairs": dpo, "rated": regression, "rated_twice": regression}[job["kind"]]
    with tempfile.TemporaryDirectory() as folder:
        trainer, clock = make(job, folder, load(job, tokenizer), tokenizer), Clock()
        trainer.add_callback(clock)
        rates = [gemm_rate()]
        trainer.train()
        peak = peak_bytes()
        rates.append(gemm_rate())
    result = {"seconds": clock.seconds, "losses": clock.losses, "peak_bytes": peak, "gemm_rates": rates}
    Path(result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
