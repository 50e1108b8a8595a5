import json
import math

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from infra.errors import EmptyDataset, InputError
from models.checkpoint import load_model
from models.packing import Document, Pair
from models.parallel.workers import Workers
from tasks import preference_tuning, reference_logprobs
from tasks.configs.base import Resources
from tasks.configs.training import PreferenceTuningConfig, ReferenceLogprobsConfig
from tasks.preference_tuning import gap_metrics, preference_settings, take_part
from tasks.reference_logprobs import score_pairs
from tasks.rows import PREFERENCE, make_row

QUICK = Resources(microbatch_tokens=256, checkpoint_every_s=1e-6)
CONFIG = PreferenceTuningConfig(
    steps=16, global_batch_size=3, learning_rate=2e-3, warmup_steps=2, beta=0.5, resources=QUICK
)


def preference(question: str, chosen: str, rejected: str, rewards=(3.0, 1.0), licence="CC0-1.0"):
    sides = {name: [{"role": "assistant", "content": text}] for name, text in
             (("chosen", chosen), ("rejected", rejected))}  # fmt: skip
    values = {"prompt_id": question, "prompt": [{"role": "user", "content": question}], **sides, "licence": licence,
              "chosen_reward": rewards[0], "rejected_reward": rewards[1]}  # fmt: skip
    return make_row(PREFERENCE, values, [question, chosen, rejected, rewards])


def some_rows(rewards=(3.0, 1.0)):
    return [preference(f"Say {word}.", word, f"no {word}", rewards) for word in ("red", "blue", "green", "grey", "ok")]


def given(shop, tokenizer, rows):
    """The policy with pairs and their reference log-probabilities."""
    inputs = {"policy": shop.put_model("policy", tokenizer), "pairs": shop.put_rows("pairs", rows, PREFERENCE)}
    return inputs | {"reference": shop.run(reference_logprobs.run, ReferenceLogprobsConfig(), **inputs)}


def margins(made, inputs, tokenizer) -> torch.Tensor:
    """How far each pair's log-probability gap moved from the policy's: beta-free, one per pair."""
    known = reference_logprobs.read_reference(inputs["reference"], inputs["policy"], inputs["pairs"], tokenizer)
    keyed, _ = preference_tuning.read_pairs(inputs["pairs"].rows(), tokenizer, known, 500, needs_rewards=False)
    pairs = [pair for _, pair in keyed]
    model, _ = load_model(made.folder())
    now = score_pairs(model, pairs, 4096, Workers())
    return torch.tensor([
        (chosen - rejected) - (pair.reference_chosen - pair.reference_rejected)
        for (chosen, rejected), pair in zip(now, pairs, strict=True)
    ])  # fmt: skip


def curve(made) -> list[dict[str, float]]:
    return [point["values"] for point in json.loads(made.read_bytes("curves.json"))]


def test_dpo_moves_every_margin_up(workshop, tokenizer):
    inputs = given(workshop, tokenizer, some_rows())
    made = workshop.run(preference_tuning.run, CONFIG.model_copy(update={"objective": "dpo"}), **inputs)
    assert margins(made, inputs, tokenizer).min() > 1
    points = curve(made)
    assert points[0]["pair_loss"] == pytest.approx(math.log(2), rel=1e-5), "the policy starts as its own reference"
    assert points[-1]["pair_loss"] < 0.5 * math.log(2)
    manifest = made.manifest()
    assert manifest.counts == {"in": 5, "kept": 5} and manifest.metrics["pairs"] == 5
    assert manifest.result == {"objective": "dpo", "licences": ["Apache-2.0", "CC0-1.0"]}
    assert manifest.metrics["beta"] == 0.5 and "eta" not in manifest.metrics


@pytest.mark.parametrize("distance", ["backward_kl", "forward_kl", "squared"])
@pytest.mark.parametrize("rewards", [(3.0, 1.0), (1.0, 3.0)], ids=["with the reward", "against it"])
def test_rpo_moves_margins_to_what_the_rewards_ask_for(workshop, tokenizer, distance, rewards):
    """Towards eta * gap / beta, and not beyond as DPO goes; also downwards, where the chosen one has less reward."""
    inputs = given(workshop, tokenizer, some_rows(rewards))
    config = CONFIG.model_copy(update={"eta": 0.5, "steps": 60, "distance": distance, "sft_weight": 0.0})
    made = workshop.run(preference_tuning.run, config, **inputs)
    target = 0.5 * (rewards[0] - rewards[1]) / config.beta
    assert (margins(made, inputs, tokenizer) - target).abs().max() < 0.5
    metrics = made.manifest().metrics
    assert metrics["eta"] == 0.5 and metrics["median_reward_gap"] == 1.0 and metrics["median_target_gap_nats"] == 2.0
    assert metrics["share_against_reward"] == float(rewards[0] < rewards[1])


def test_the_sft_term_keeps_the_chosen_answers_likely(workshop, tokenizer):
    inputs = given(workshop, tokenizer, some_rows())
    likely = []
    for weight in (0.0, 1.0):
        config = CONFIG.model_copy(update={"objective": "dpo", "sft_weight": weight})
        likely.append(curve(workshop.run(preference_tuning.run, config, **inputs))[-1]["chosen_nll"])
    assert likely[1] < likely[0] - 1


@pytest.mark.parametrize(
    "changes", [{"objective": "dpo"}, {"objective": "rpo"}, {"objective": "rpo", "trainable": "lora"}],
    ids=["dpo", "rpo", "rpo with lora"],
)  # fmt: skip
def test_interrupted_and_resumed_gives_the_same_bytes(workshop, another_workshop, tokenizer, changes):
    config = CONFIG.model_copy(update=changes)
    made = []
    for shop in (workshop, another_workshop):
        inputs = given(shop, tokenizer, some_rows())
        if shop is another_workshop:
            assert 0 < shop.interrupt(preference_tuning.run, config, at_step=9, **inputs) < 9
        made.append(shop.run(preference_tuning.run, config, **inputs))
    assert made[0].manifest().sha256() == made[1].manifest().sha256()
    assert [point["loss"] for point in curve(made[0])] == [point["loss"] for point in curve(made[1])]
    assert not another_workshop.store.list("attempts")


def test_low_rank_training_starts_at_the_reference_and_is_merged(workshop, tokenizer):
    inputs = given(workshop, tokenizer, some_rows())
    config = CONFIG.model_copy(update={"objective": "dpo", "trainable": "lora", "lora_rank": 4, "learning_rate": 2e-2})
    made = workshop.run(preference_tuning.run, config, **inputs)
    assert curve(made)[0]["pair_loss"] == pytest.approx(math.log(2), rel=1e-5)
    assert margins(made, inputs, tokenizer).mean() > 0.5
    theirs = AutoModelForCausalLM.from_pretrained(made.folder())
    assert theirs.num_parameters() == load_model(made.folder())[0].config.num_parameters


def test_another_models_reference_is_refused(workshop, tokenizer):
    inputs = given(workshop, tokenizer, some_rows())
    other = workshop.put_model("another", tokenizer, seed=1)
    with pytest.raises(InputError, match=r"another policy.*run the reference-logprobs stage"):
        workshop.run(preference_tuning.run, CONFIG, **inputs | {"policy": other})


def test_rpo_leaves_out_pairs_without_rewards_and_dpo_needs_none(workshop, tokenizer):
    rows = [
        *some_rows()[:3],
        preference("Say it.", "it", "no it", (None, None)),
        preference("x", "y", "z", (1.0, None)),
    ]
    inputs = given(workshop, tokenizer, rows)
    rpo = workshop.run(preference_tuning.run, CONFIG, **inputs).manifest()
    assert rpo.counts == {"in": 5, "kept": 3, "dropped:no rewards": 2}
    dpo = workshop.run(preference_tuning.run, CONFIG.model_copy(update={"objective": "dpo"}), **inputs).manifest()
    assert dpo.counts == {"in": 5, "kept": 5}


def test_long_pairs_are_dropped_and_none_left_is_an_error(workshop, tokenizer):
    inputs = given(workshop, tokenizer, [*some_rows()[:3], preference("Say a lot.", "word " * 20, "no")])
    made = workshop.run(preference_tuning.run, CONFIG.model_copy(update={"max_tokens": 100}), **inputs)
    assert made.manifest().counts == {"in": 4, "kept": 3, "dropped:over 100 tokens": 1}
    with pytest.raises(EmptyDataset, match="no preference pairs to train on"):
        workshop.run(preference_tuning.run, CONFIG.model_copy(update={"max_tokens": 10}), **inputs)


def test_parts_are_disjoint_in_prompts_and_cover_all(workshop, tokenizer):
    rows = [preference(f"q{number % 7}", f"a{number}", "no") for number in range(20)]
    parts = [take_part(rows, part, 3) for part in range(3)]
    prompts = [{row["prompt_id"] for row in part} for part in parts]
    assert sum(map(len, parts)) == 20 and set.union(*prompts) == {f"q{n}" for n in range(7)}
    assert sum(map(len, prompts)) == 7 and take_part(rows, 0, 1) == rows
    assert [{r["id"] for r in take_part(rows[::-1], part, 3)} for part in range(3)] == [
        {r["id"] for r in part} for part in parts
    ]
    inputs = given(workshop, tokenizer, some_rows())
    counts = [
        workshop.run(preference_tuning.run, CONFIG.model_copy(update={"part": n, "parts": 2}), **inputs)
        .manifest()
        .counts
        for n in range(2)
    ]
    assert [found["kept"] for found in counts] == [3, 2]


def pair_of(chosen_reward: float, rejected_reward: float) -> Pair:
    document = Document.of([1, 2, 3])
    return Pair(document, document, 0.0, 0.0, chosen_reward, rejected_reward)


def test_eta_is_worked_out_from_the_median_gap() -> None:
    pairs = [pair_of(gap, 0.0) for gap in (0.5, 1.0, -0.25)]
    settings = preference_settings(CONFIG.model_copy(update={"eta": "auto", "target_gap": 3.0}), pairs)
    assert settings.eta == 6.0
    metrics = gap_metrics(settings, pairs)
    assert metrics["median_reward_gap"] == 3.0 and metrics["median_target_gap_nats"] == 6.0
    assert metrics["share_against_reward"] == pytest.approx(1 / 3)
    with pytest.raises(EmptyDataset, match="the median reward gap of 3 pairs is 0"):
        preference_settings(CONFIG.model_copy(update={"eta": "auto"}), [pair_of(1, 1), pair_of(2, 2), pair_of(0, 3)])
    assert preference_settings(CONFIG.model_copy(update={"eta": 2.0}), [pair_of(1, 1)]).eta == 2.0


@pytest.mark.parametrize(
    "changes",
    [{"part": 1}, {"eta": 0}, {"eta": "some"}, {"beta": 0}, {"target_gap": 0}, {"objective": "ppo"},
     {"sft_weight": -1}, {"distance": "l1"}],
)  # fmt: skip
def test_wrong_settings_name_their_field(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        PreferenceTuningConfig(**changes)
