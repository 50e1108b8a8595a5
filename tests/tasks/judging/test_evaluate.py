"""Examinations with a real (random) model: who is asked, what is counted, what a second model is compared with."""

import pytest

from infra.errors import EmptyDataset, InputError
from models.checkpoint import load_model
from models.engine import Engine, SamplingParams
from tasks import evaluate
from tasks.configs.base import Resources
from tasks.configs.evaluate import EvaluateConfig
from tasks.evaluate import metrics_of
from tasks.rows import ITEM

SHORT = EvaluateConfig(half="gate", max_tokens=6, shard_items=4)


@pytest.fixture
def items(item):
    checked = [item(f"Question {n}?", "a" if n % 2 else "impossible", key=f"k{n % 3}/{n}") for n in range(5)]
    other = [item(f"Kind {n}?", "e", family="instruction") for n in range(3)]
    return [*checked, *other, *(item(f"Tell me {n}") for n in range(3)), item("Seen before?", "a", half="dev")]


@pytest.fixture
def inputs(put_rows, items, tiny_model):
    return {"model": tiny_model(), "evaluation_set": put_rows("items", items, ITEM)}


def test_answers_are_greedy_and_checked_by_truth(run_stage, inputs, items):
    artifact = run_stage(evaluate.run, SHORT, **inputs)
    rows = {row["item_id"]: row for row in artifact.rows()}
    asked = [item for item in items if item["half"] == "gate"]
    assert set(rows) == {item["id"] for item in asked}
    model, tokenizer = load_model(inputs["model"].folder())
    alone = Engine(model, tokenizer).generate([item["messages"] for item in asked], SamplingParams(0.0, max_tokens=6))
    assert [rows[item["id"]]["answer"] for item in asked] == [result.text for result in alone]
    for item in asked:
        row = rows[item["id"]]
        assert (row["passed"] is None) == (item["verifier"] is None) and row["parents"] == [item["id"]]
        assert row["generator"] == inputs["model"].fingerprint and row["licence"] == "CC0-1.0"


def test_metrics_are_the_means_of_the_rows(run_stage, inputs, tiny_reward_model):
    artifact = run_stage(evaluate.run, SHORT, reward_model=tiny_reward_model(), **inputs)
    metrics, rows = artifact.manifest().metrics, artifact.rows()
    judged = [row["passed"] for row in rows if row["passed"] is not None]
    assert metrics["accuracy"] == pytest.approx(sum(judged) / 8) and metrics["judged_items"] == 8
    assert {"accuracy/ordinary", "accuracy/instruction"} <= set(metrics) and "accuracy/open" not in metrics
    rewards = [row["reward"] for row in rows if row["family"] == "open"]
    assert metrics["reward_mean"] == pytest.approx(sum(rewards) / 3) and len(set(rewards)) > 1
    assert all(row["reward"] is None for row in rows if row["family"] != "open")
    assert "win_rate" not in metrics and artifact.manifest().counts["kept"] == 11


def test_a_model_ties_with_itself(run_stage, inputs, tiny_reward_model):
    judge = tiny_reward_model()
    baseline = run_stage(evaluate.run, SHORT, reward_model=judge, **inputs)
    again = SHORT.model_copy(update={"salt": "again"})
    assert (
        run_stage(evaluate.run, again, reward_model=judge, baseline=baseline, **inputs).manifest().metrics["win_rate"]
        == 0.5
    )


def test_a_baseline_scored_by_another_reward_model_is_scored_anew(run_stage, inputs, tiny_reward_model):
    judge, other = tiny_reward_model(0), tiny_reward_model(1)
    scored = [run_stage(evaluate.run, SHORT, reward_model=model, **inputs) for model in (judge, other)]
    found = run_stage(evaluate.run, SHORT, reward_model=judge, baseline=scored[1], **inputs)
    assert {row["baseline_reward"] for row in found.rows()} == {row["reward"] for row in scored[0].rows()}
    assert {row["reward"] for row in scored[0].rows()} != {row["reward"] for row in scored[1].rows()}


def test_win_rate_counts_ties_half():
    rows = [{"family": "open", "passed": None, "reward": ours, "baseline_reward": theirs}
            for ours, theirs in ((2.0, 1.0), (1.0, 1.0), (0.0, 1.0), (3.0, 1.0), (1.0, None))]  # fmt: skip
    assert metrics_of(rows)["win_rate"] == 0.625


def test_families_and_limits(run_stage, inputs):
    config = SHORT.model_copy(update={"families": ("ordinary", "open"), "max_items": 4})
    families = [row["family"] for row in run_stage(evaluate.run, config, **inputs).rows()]
    assert sorted(families) == ["open", "open", "ordinary", "ordinary"]


def test_results_do_not_depend_on_shards_or_batch(run_stage, inputs):
    other = SHORT.model_copy(update={"shard_items": 100, "resources": Resources(batch_rows=2)})
    one, two = (run_stage(evaluate.run, config, **inputs).rows() for config in (SHORT, other))
    assert one == two


def test_an_unknown_family_names_the_known_ones(run_stage, inputs):
    config = SHORT.model_copy(update={"families": ("poetry",)})
    with pytest.raises(EmptyDataset, match=r"\['poetry'\].*'instruction', 'open', 'ordinary'"):
        run_stage(evaluate.run, config, **inputs)


def test_a_model_that_is_no_reward_model_is_refused(run_stage, inputs, tiny_model):
    with pytest.raises(InputError, match="no reward model"):
        run_stage(evaluate.run, SHORT, reward_model=tiny_model(), **inputs)
