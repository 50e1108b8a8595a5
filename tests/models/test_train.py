import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.batches import ExampleBatches
from models.config import ModelConfig
from models.decoder import Decoder, init_model
from models.objectives import NextToken
from models.optim import OptimizerSettings
from models.packing import Document
from models.train import MOST_SKIPPED, SPIKE_WINDOW, Diverged, Totals, Trainer, evaluate

CONFIG = ModelConfig("nemotron", 50, 24, 48, 2, 4, 2, 6, rotary_fraction=1.0, init_std=0.1)
SETTINGS = OptimizerSettings(3e-3, schedule="cosine", warmup_steps=2, weight_decay=0.1, clip_norm=0.5)


def make_documents(count: int = 20) -> list[Document]:
    generator = torch.Generator().manual_seed(9)
    lengths = torch.randint(5, 30, (count,), generator=generator).tolist()
    return [Document.of(torch.randint(50, (length,), generator=generator).tolist()) for length in lengths]


def make_trainer(steps: int = 12, microbatch_tokens: int = 64, settings: OptimizerSettings = SETTINGS) -> Trainer:
    model = init_model(CONFIG, seed=0)
    documents = make_documents()
    plan = ExampleBatches(len(documents), 6, seed=4, steps=steps)
    return Trainer(model, NextToken(model), documents, plan, settings, microbatch_tokens)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.parameters.items()}


def assert_bit_equal(first: Trainer, second: Trainer) -> None:
    assert all(torch.equal(first.parameters[name], second.parameters[name]) for name in first.parameters)
    for name in first.parameters:
        mine, theirs = (t.optimizer.state[t.parameters[name]] for t in (first, second))
        assert all(torch.equal(mine[key], theirs[key]) for key in ("step", "exp_avg", "exp_avg_sq"))
    assert first.totals == second.totals


def plain_training(steps: int) -> tuple[Decoder, list[float]]:
    """The same training written out with torch's own parts: one document at a time, full logits, plain AdamW."""
    model = init_model(CONFIG, seed=0)
    documents, plan = make_documents(), ExampleBatches(20, 6, seed=4, steps=steps)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
        lr=1.0, betas=(0.9, 0.95), weight_decay=0.1, fused=False,
    )  # fmt: skip
    losses = []
    for step in range(steps):
        batch = [torch.tensor(documents[i].token_ids) for i in plan.batch(step)]
        logits = [model(ids[None, :-1])[0] for ids in batch]
        loss = torch.nn.functional.cross_entropy(torch.cat(logits), torch.cat([ids[1:] for ids in batch]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        down = max(0, step - 2 + 1) / (steps - 2)
        share = (step + 1) / 3 if step < 2 else (1 + math.cos(math.pi * down)) / 2
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * share
        optimizer.step()
        losses.append(float(loss.detach()))
    return model, losses


def test_training_equals_a_plain_loop():
    trainer = make_trainer()
    losses = [report.metrics["loss"] for report in trainer.run()]
    model, expected = plain_training(12)
    assert losses == pytest.approx(expected, rel=1e-4)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trainer.parameters[name], parameter, rtol=1e-3, atol=1e-4, msg=name)


def test_any_microbatch_size_gives_the_same_training():
    runs = [make_trainer(microbatch_tokens=tokens) for tokens in (16, 64, 10_000)]
    curves = [[report.metrics["loss"] for report in run.run()] for run in runs]
    assert curves[0] == pytest.approx(curves[2], rel=1e-5)
    assert curves[1] == pytest.approx(curves[2], rel=1e-5)


def test_the_same_seed_gives_the_same_bits():
    first, second = make_trainer(), make_trainer()
    assert [r.metrics for r in first.run()] == [r.metrics for r in second.run()]
    assert_bit_equal(first, second)


@pytest.mark.parametrize("stop", [1, 7])
def test_resumed_training_equals_uninterrupted_training(stop, tmp_path):
    straight = make_trainer()
    curve = [report.metrics for report in straight.run()]
    interrupted = make_trainer()
    steps = interrupted.run()
    before = [next(steps).metrics for _ in range(stop)]
    interrupted.save(tmp_path)()
    next(steps)  # what came after the checkpoint is lost
    torch.manual_seed(12345)
    resumed = make_trainer()
    resumed.restore(tmp_path)
    assert before + [report.metrics for report in resumed.run()] == curve
    assert_bit_equal(resumed, straight)


def test_rng_is_part_of_the_checkpoint(tmp_path):
    trainer = make_trainer()
    next(trainer.run())
    torch.manual_seed(77)
    trainer.save(tmp_path)()
    expected = torch.rand(3)
    trainer.restore(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_checkpoint_of_another_model_is_refused(tmp_path):
    trainer = make_trainer()
    next(trainer.run())
    trainer.save(tmp_path)()
    other = init_model(ModelConfig("nemotron", 50, 24, 40, 2, 4, 2, 6, rotary_fraction=1.0), seed=0)
    documents = make_documents()
    stranger = Trainer(other, NextToken(other), documents, ExampleBatches(20, 6, 0, steps=2), SETTINGS, 64)
    with pytest.raises(ValueError, match="another model"):
        stranger.restore(tmp_path)


def test_killed_process_goes_on_bit_for_bit(tmp_path):
    """kill -9 in the middle of training; a new process resumes from the last checkpoint that was complete."""
    command = [
        sys.executable,
        str(Path(__file__).parent / "train_and_save.py"),
        str(tmp_path),
        str(torch.get_num_threads()),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "step-3").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "step-60").exists(), "the process was too fast to be killed"
    subprocess.run(command, env=environment, check=True)
    resumed, straight = make_trainer(steps=60), make_trainer(steps=60)
    resumed.restore(tmp_path / "step-60")
    list(straight.run())
    assert_bit_equal(resumed, straight)


def test_steps_with_nan_are_skipped_and_counted():
    trainer = make_trainer(steps=5)
    spoil = next(iter(trainer.parameters.values()))
    reports, steps = [], trainer.run()
    reports.append(next(steps))
    before = weights(trainer)
    hook = spoil.register_hook(lambda gradient: gradient * float("nan"))
    reports.append(next(steps))
    assert all(torch.equal(before[name], after) for name, after in weights(trainer).items())
    hook.remove()
    reports += list(steps)
    assert [report.skipped for report in reports] == [False, True, False, False, False]
    assert trainer.totals.skipped == 1
    assert trainer.totals.step == 5
    assert math.isfinite(trainer.totals.means()["loss"])
    assert all(parameter.isfinite().all() for parameter in trainer.parameters.values())


def test_training_that_only_gives_nan_stops():
    trainer = make_trainer(steps=MOST_SKIPPED + 5)
    next(iter(trainer.parameters.values())).data.fill_(float("nan"))
    with pytest.raises(ValueError, match=f"NaN or Inf in {MOST_SKIPPED} steps"):
        list(trainer.run())


def test_reports_and_progress_tell_what_happened():
    trainer = make_trainer(steps=3, microbatch_tokens=32)
    heard: list[float] = []
    reports = list(trainer.run(heard.append))
    assert [report.step for report in reports] == [1, 2, 3]
    assert [report.learning_rate for report in reports] == [SETTINGS.rate(step, 3) for step in range(3)]
    assert heard == sorted(heard) and heard[-1] == 3.0 and len(heard) > 3
    assert trainer.totals.tokens == sum(report.tokens for report in reports)
    names = {"loss", "learning_rate", "grad_norm", "tokens_per_s", "data_wait_share", "skipped"}
    assert set(reports[0].values()) == names


def test_evaluation_is_the_mean_over_all_examples_and_trains_nothing():
    trainer = make_trainer()
    before = weights(trainer)
    found = evaluate(trainer.objective, trainer.examples, 64)
    whole, _ = trainer.objective.loss(trainer.examples, sum(map(trainer.objective.weight, trainer.examples)))
    assert found["loss"] == pytest.approx(whole.item(), rel=1e-5)
    assert all(torch.equal(before[name], after) for name, after in weights(trainer).items())
    assert all(parameter.grad is None for parameter in trainer.parameters.values())


def test_a_loss_that_stays_far_above_the_others_stops_training():
    """From step 40 on the model is another, whose loss is large; the checkpoint before is still there to go back to."""
    trainer = make_trainer(steps=60, settings=replace(SETTINGS, learning_rate=1e-4, spike_factor=2.0))
    steps = []
    with pytest.raises(Diverged, match=r"above 2 times the largest of 32 steps before .* up to step 43"):
        for report in trainer.run():
            steps.append(report.step)
            if report.step == 40:
                with torch.no_grad():
                    trainer.parameters["lm_head.weight"].mul_(100)
    assert steps[-1] == 42


def test_one_outlier_or_a_short_run_does_not_stop_training():
    totals = Totals(recent=[1.0] * SPIKE_WINDOW)
    for loss in (9.0, 9.0, 1.5, 9.0):
        totals.watch(loss, 4.0)
    assert totals.spikes_in_a_row == 1 and totals.recent[-1] == 1.5 and len(totals.recent) == SPIKE_WINDOW
    short = Totals(recent=[1.0] * (SPIKE_WINDOW - 1))
    short.watch(9.0, 4.0)
    assert short.spikes_in_a_row == 0
