import json
import math
from random import Random

import pytest
import torch
from pydantic import ValidationError

from infra.errors import EmptyDataset, InputError
from models.chat import encode_prompt
from models.checkpoint import load_model
from models.reward import RewardScorer, encode_conversation, load_reward_model
from tasks import reward_model
from tasks.configs.base import Resources
from tasks.configs.training import RewardModelConfig
from tasks.held_out import hold_out
from tasks.reward_model import prompt_of, read_answers
from tasks.rows import ATTRIBUTE, ATTRIBUTES, make_row

QUICK = Resources(microbatch_tokens=512, checkpoint_every_s=1e-6)
RIDGE = RewardModelConfig(validation_fraction=0.25, resources=QUICK)
REGRESSION = RewardModelConfig(mode="regression", validation_fraction=0.25, steps=40, global_batch_size=8,
                               learning_rate=5e-3, evaluate_every=8, resources=QUICK)  # fmt: skip


def labelled(question: str, answer: str, labels, licence: str = "CC-BY-4.0"):
    values = {"prompt": [{"role": "user", "content": question}], "response": answer, "licence": licence,
              **dict(zip(ATTRIBUTES, labels, strict=True))}  # fmt: skip
    return make_row(ATTRIBUTE, values, [question, answer])


def some_rows(count: int = 24):
    """Two answers to each question: one that says "yes" and is good, one that says "no" and is not."""
    rng, rows = Random(0), []
    for number in range(count):
        for word, good in (("yes", 4.0), ("no", 0.0)):
            answer = f"{word} {rng.choice(['sun', 'sea', 'tea'])} {word}"
            rows.append(labelled(f"Is it {number}?", answer, (good, good, 4.0 - good, 2.0, len(answer) / 10)))
    return rows


@pytest.fixture
def inputs(workshop, tokenizer):
    return {"base": workshop.put_model("base", tokenizer),
            "attributes": workshop.put_rows("attributes", some_rows(), ATTRIBUTE)}  # fmt: skip


def scores_of(made, answers) -> torch.Tensor:
    model, tokenizer = load_reward_model(made.folder())
    ask = {"role": "user", "content": "Is it 99?"}
    return torch.tensor(
        RewardScorer(model, tokenizer).score([[ask, {"role": "assistant", "content": text}] for text in answers])
    )


@pytest.mark.parametrize("config", [RIDGE, REGRESSION], ids=["ridge", "regression"])
def test_good_answers_are_told_from_bad_ones(workshop, inputs, config):
    made = workshop.run(reward_model.run, config, **inputs)
    good, bad = scores_of(made, ["yes tea yes", "no tea no"])
    assert good[0] - bad[0] > 2 and good[1] - bad[1] > 2 and bad[2] - good[2] > 2, "helpful, correct, not incoherent"
    assert abs(good[3] - 2) < 0.3 and abs(bad[3] - 2) < 0.3, "a constant label"
    manifest = made.manifest()
    assert manifest.metrics["pair_accuracy"] == 1 and manifest.metrics["mse"] < 0.5
    assert (manifest.metrics["training_rows"], manifest.metrics["validation_rows"]) == (36, 12)
    assert manifest.counts == {"in": 48, "kept": 48}
    assert manifest.result == {
        "mode": config.mode, "attributes": list(ATTRIBUTES), "licences": ["Apache-2.0", "CC-BY-4.0"],
    }  # fmt: skip


def test_answers_to_a_question_are_trained_on_together(workshop, inputs, monkeypatch):
    """A batch of eight holds four questions, each with both of its answers."""
    batches = []
    train = reward_model.train_keeping_best

    def watched(trainer, *others):
        batches.append([trainer.examples[index] for index in trainer.plan.batch(0)])
        return train(trainer, *others)

    monkeypatch.setattr(reward_model, "train_keeping_best", watched)
    workshop.run(reward_model.run, REGRESSION.model_copy(update={"steps": 1}), **inputs)
    prompts = [rated.prompt for rated in batches[0]]
    assert len(prompts) == 8 and all(prompts.count(prompt) == 2 for prompt in prompts)
    assert prompts != sorted(prompts), "questions are shuffled"


def test_ridge_leaves_the_trunk_as_it_is(workshop, inputs):
    made = workshop.run(reward_model.run, RIDGE, **inputs)
    base, trunk = load_model(inputs["base"].folder())[0], load_reward_model(made.folder())[0].decoder
    assert all(torch.equal(a, b) for a, b in zip(base.parameters(), trunk.parameters(), strict=True))
    metrics = made.manifest().metrics
    assert metrics["left_out_pair_accuracy"] > 0.9
    assert all(1e-3 <= metrics[f"ridge_penalty_{name}"] <= 100 for name in ATTRIBUTES)


def test_regression_moves_the_trunk_and_keeps_the_best_validation(workshop, inputs):
    made = workshop.run(reward_model.run, REGRESSION, **inputs)
    base, trunk = load_model(inputs["base"].folder())[0], load_reward_model(made.folder())[0].decoder
    before, after = base.state_dict(), trunk.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before if "_proj" in name)
    points = {point["step"]: point["values"] for point in json.loads(made.read_bytes("curves.json"))}
    validated = {step: values["validation_loss"] for step, values in points.items() if "validation_loss" in values}
    assert list(validated) == [8, 16, 24, 32, 40]
    metrics = made.manifest().metrics
    assert metrics["best_validation_loss"] == min(validated.values()) == validated[metrics["best_step"]]
    assert metrics["mse"] == pytest.approx(metrics["best_validation_loss"], rel=1e-3), "the best weights were written"


def test_the_best_weights_are_put_back_where_later_ones_are_worse(workshop, inputs):
    """A rate so high that validation gets worse again: the last weights must not be the written ones."""
    config = REGRESSION.model_copy(update={"learning_rate": 0.5, "evaluate_every": 1, "steps": 12})
    metrics = workshop.run(reward_model.run, config, **inputs).manifest().metrics
    assert metrics["best_step"] < 12
    assert metrics["mse"] == pytest.approx(metrics["best_validation_loss"], rel=1e-3)


def interrupted_and_whole(workshop, another_workshop, tokenizer, config, rows):
    """Manifests of a run without and of one with a stop, and the step at which the second one went on."""
    made, resumed_at = [], 0
    for shop in (workshop, another_workshop):
        given = {"base": shop.put_model("base", tokenizer), "attributes": shop.put_rows("attributes", rows, ATTRIBUTE)}
        if shop is another_workshop:
            resumed_at = shop.interrupt(reward_model.run, config, at_step=10, **given)
        made.append(shop.run(reward_model.run, config, **given).manifest())
    return *made, resumed_at


@pytest.mark.parametrize("trainable", ["all", "lora"])
def test_interrupted_and_resumed_gives_the_same_bytes(workshop, another_workshop, tokenizer, trainable):
    config = REGRESSION.model_copy(update={"steps": 14, "evaluate_every": 1, "trainable": trainable})
    whole, resumed, at = interrupted_and_whole(workshop, another_workshop, tokenizer, config, some_rows(12))
    assert 0 < at < 10
    assert whole.sha256() == resumed.sha256() and whole.metrics["best_step"] == resumed.metrics["best_step"] > at


def test_the_best_weights_so_far_come_through_a_stop(workshop, another_workshop, tokenizer):
    """Labels of 0 are what the fresh head says; a rate that grows makes every later step worse than the first."""
    rows = [labelled(row["prompt"][0]["content"], row["response"], (0.0,) * 5) for row in some_rows(12)]
    changes = {"steps": 14, "evaluate_every": 1, "learning_rate": 5.0, "warmup_steps": 500}
    config = REGRESSION.model_copy(update=changes)
    whole, resumed, at = interrupted_and_whole(workshop, another_workshop, tokenizer, config, rows)
    assert whole.metrics["best_step"] == resumed.metrics["best_step"] <= at < 10
    assert whole.sha256() == resumed.sha256()


@pytest.mark.parametrize("config", [RIDGE, REGRESSION], ids=["ridge", "regression"])
def test_missing_labels_are_masked(workshop, inputs, config):
    """Labels of one attribute are missing in half of the rows, of another in all; no row of wrong ones is made up."""
    rows = [row | {"verbosity": None} | ({"coherence": None} if number % 4 > 1 else {})
            for number, row in enumerate(some_rows())]  # fmt: skip
    empty = [labelled("Is it empty?", "yes", (None,) * 5)]
    holed = workshop.put_rows("holed", [*rows, *empty], ATTRIBUTE)
    made = workshop.run(reward_model.run, config, base=inputs["base"], attributes=holed)
    good, bad = scores_of(made, ["yes tea yes", "no tea no"])
    assert good[0] - bad[0] > 2 and bad[2] - good[2] > 2
    assert abs(good[4]) < 0.5 and abs(bad[4]) < 0.5, "nothing was learnt of an attribute without labels"
    assert made.manifest().counts == {"in": 49, "kept": 48, "dropped:no label": 1}
    assert "pearson_verbosity" not in made.manifest().metrics


def test_ridge_is_fitted_on_the_features_that_scoring_reads(workshop, inputs, tokenizer):
    made = workshop.run(reward_model.run, RIDGE, **inputs)
    model, _ = load_reward_model(made.folder())
    messages = [{"role": "user", "content": "Is it 3?"}, {"role": "assistant", "content": "yes sun yes"}]
    features = RewardScorer(model, tokenizer).features([messages])
    token_ids, place, answer_at = encode_conversation(tokenizer, messages)
    assert token_ids[:answer_at] == encode_prompt(tokenizer, messages[:1])
    assert tokenizer.token(token_ids[place]) == "<|im_end|>"
    scores = torch.tensor(RewardScorer(model, tokenizer).score([messages]))
    torch.testing.assert_close(scores, model.attributes(features).detach())


def test_prompts_not_rows_are_split(tokenizer):
    answers, counts = read_answers(some_rows(), tokenizer, 500)
    training, validation = hold_out(answers, prompt_of, 0.25, seed=0)
    assert counts["kept"] == len(training) + len(validation) == 48
    assert {a.prompt for a in training}.isdisjoint(a.prompt for a in validation)
    assert len({a.prompt for a in validation}) == 6 and len(validation) == 12
    again = hold_out(answers[::-1], prompt_of, 0.25, seed=0)
    assert {a.prompt for a in again[1]} == {a.prompt for a in validation}
    assert {a.prompt for a in hold_out(answers, prompt_of, 0.25, seed=1)[1]} != {a.prompt for a in validation}
    assert len({a.prompt for a in hold_out(answers, prompt_of, 0.001, seed=0)[1]}) == 1, "at least one"


def test_labels_and_the_end_of_the_answer_are_read(tokenizer):
    ((answer,), _) = read_answers([labelled("q", "a b", (1, None, 3, None, 0))], tokenizer, 500)
    assert [label if not math.isnan(label) else None for label in answer.rated.labels] == [1, None, 3, None, 0]
    assert tokenizer.token(answer.rated.token_ids[-1]) == "<|im_end|>"


def test_what_cannot_be_used_is_counted_or_an_error(workshop, inputs, tokenizer):
    rows = [*some_rows(4), labelled("Long?", "word " * 30, (1,) * 5)]
    attributes = workshop.put_rows("one long", rows, ATTRIBUTE)
    config = RIDGE.model_copy(update={"max_tokens": 100})
    counts = workshop.run(reward_model.run, config, base=inputs["base"], attributes=attributes).manifest().counts
    assert counts == {"in": 9, "kept": 8, "dropped:over 100 tokens": 1}
    one_prompt = workshop.put_rows("one prompt", some_rows(1), ATTRIBUTE)
    with pytest.raises(EmptyDataset, match="have 1 prompts"):
        workshop.run(reward_model.run, RIDGE, base=inputs["base"], attributes=one_prompt)
    empty = workshop.put("empty", lambda output: output.write_text("note.txt", "nothing"), kind="checkpoint")
    with pytest.raises(InputError, match=r"config\.json"):
        workshop.run(reward_model.run, RIDGE, base=empty, attributes=inputs["attributes"])


@pytest.mark.parametrize(
    "changes", [{"mode": "pairs"}, {"ridge_penalty": 0}, {"validation_fraction": 0}, {"validation_fraction": 1},
                {"evaluate_every": -1}],
)  # fmt: skip
def test_wrong_settings_name_their_field(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        RewardModelConfig(**changes)
