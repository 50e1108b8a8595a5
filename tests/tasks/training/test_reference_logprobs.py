import pytest
import torch

from infra.errors import EmptyDataset, InputError
from models.chat import NEMOTRON_TEMPLATE, encode_dialogue
from models.checkpoint import load_model
from models.tokenizer import Tokenizer
from tasks import reference_logprobs
from tasks.configs.base import Resources
from tasks.configs.training import ReferenceLogprobsConfig
from tasks.preference_tuning import read_pairs
from tasks.reference_logprobs import read_reference
from tasks.rows import PREFERENCE, make_row

CONFIG = ReferenceLogprobsConfig(shard_rows=2, resources=Resources(microbatch_tokens=128))


def preference(question: str, chosen: str, rejected: str):
    sides = {name: [{"role": "assistant", "content": text}] for name, text in
             (("chosen", chosen), ("rejected", rejected))}  # fmt: skip
    values = {"prompt_id": question, "prompt": [{"role": "user", "content": question}], **sides, "licence": "MIT"}
    return make_row(PREFERENCE, values, [question, chosen, rejected])


ROWS = [preference(f"Say {word}.", word, f"{word} {other}") for word, other in
        (("red", "no"), ("blue", "never"), ("green", "not"), ("grey", "none"), ("pink", "nothing at all"))]  # fmt: skip


@pytest.fixture
def inputs(workshop, tokenizer):
    return {"policy": workshop.put_model("policy", tokenizer), "pairs": workshop.put_rows("pairs", ROWS, PREFERENCE)}


def plain_logprob(model, tokenizer, messages) -> float:
    token_ids, trained = encode_dialogue(tokenizer, messages, last_turn_only=True)
    with torch.no_grad():
        logprobs = model(torch.tensor([token_ids]))[0].log_softmax(-1)
    return sum(float(logprobs[place - 1, token_ids[place]]) for place, flag in enumerate(trained) if flag)


def test_both_responses_of_every_pair_are_scored(workshop, inputs):
    made = workshop.run(reference_logprobs.run, CONFIG, **inputs)
    model, tokenizer = load_model(inputs["policy"].folder())
    rows = made.rows()
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    for row, source in zip(rows, ROWS, strict=True):
        for side in ("chosen", "rejected"):
            expected = plain_logprob(model, tokenizer, [*source["prompt"], *source[side]])
            assert row[f"{side}_logprob"] == pytest.approx(expected, abs=1e-4)
    assert made.manifest().counts == {"in": 5, "kept": 5, "dropped:not usable": 0}


def test_a_restart_gives_the_same_bytes(workshop, another_workshop, tokenizer):
    made = []
    for shop in (workshop, another_workshop):
        given = {"policy": shop.put_model("policy", tokenizer), "pairs": shop.put_rows("pairs", ROWS, PREFERENCE)}
        if shop is another_workshop:
            half = shop.address(CONFIG, given)
            half.events = stop_at(2)
            with pytest.raises(KeyboardInterrupt):
                reference_logprobs.run(CONFIG, half, **given)
            assert len(shop.store.list(half.artifact.key)) == 1
        made.append(shop.run(reference_logprobs.run, CONFIG, **given).manifest())
    assert made[0].sha256() == made[1].sha256() and made[0].counts == made[1].counts


def stop_at(done: int):
    def stop(event):
        if event["event"] == "progress" and event["done"] >= done:
            raise KeyboardInterrupt

    return stop


def test_pairs_that_cannot_be_used_are_counted(workshop, inputs):
    rows = [*ROWS[:2], preference("Same?", "yes", "yes"), preference("Long?", "yes", "word " * 200)]
    pairs = workshop.put_rows("more pairs", rows, PREFERENCE)
    made = workshop.run(reference_logprobs.run, CONFIG, policy=inputs["policy"], pairs=pairs)
    assert made.manifest().counts == {"in": 4, "kept": 2, "dropped:not usable": 2}
    none = workshop.put_rows("no pairs", rows[2:], PREFERENCE)
    with pytest.raises(EmptyDataset, match="none of 2 pairs"):
        workshop.run(reference_logprobs.run, CONFIG, policy=inputs["policy"], pairs=none)


def test_only_the_same_model_pairs_and_template_may_use_them(workshop, inputs, tokenizer):
    policy, pairs = inputs["policy"], inputs["pairs"]
    made = workshop.run(reference_logprobs.run, CONFIG, **inputs)
    assert len(read_reference(made, policy, pairs, tokenizer)) == 5
    another_model = workshop.put_model("another", tokenizer, seed=1)
    other_pairs = workshop.put_rows("other pairs", ROWS[:4], PREFERENCE)
    template = Tokenizer(tokenizer.backend, NEMOTRON_TEMPLATE, None, tokenizer.eos_id, tokenizer.pad_id)
    for given, named in (
        ((another_model, pairs, tokenizer), "another policy:"),
        ((policy, other_pairs, tokenizer), "another pairs:"),
        ((policy, pairs, template), "another template:"),
        ((another_model, other_pairs, tokenizer), "another policy and pairs:"),
    ):
        with pytest.raises(InputError, match=named):
            read_reference(made, *given)


def test_equal_weights_elsewhere_are_the_same_model(workshop, inputs, tokenizer):
    """Contents count, not addresses: a model that was imported again needs no new log-probabilities."""
    made = workshop.run(reference_logprobs.run, CONFIG, **inputs)
    again = workshop.put_model("the same weights", tokenizer)
    assert again.fingerprint != inputs["policy"].fingerprint
    assert read_reference(made, again, inputs["pairs"], tokenizer)


def test_a_pair_without_its_own_log_probabilities_is_refused(workshop, inputs, tokenizer):
    made = workshop.run(reference_logprobs.run, CONFIG, **inputs)
    known = read_reference(made, inputs["policy"], inputs["pairs"], tokenizer)
    with pytest.raises(InputError, match="has no reference log-probabilities among 4"):
        read_pairs(ROWS, tokenizer, dict(list(known.items())[1:]), 500, needs_rewards=False)
    changed = known | {ROWS[0]["id"]: (*known[ROWS[0]["id"]][:2], "0" * 32)}
    with pytest.raises(InputError, match=f"pair {ROWS[0]['id']} has other tokens"):
        read_pairs(ROWS, tokenizer, changed, 500, needs_rewards=False)
