import json

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from infra.errors import EmptyDataset, InputError, StageFailed
from models.chat import encode_dialogue
from models.checkpoint import load_model, save_model
from tasks import sft
from tasks.configs.base import Resources
from tasks.configs.training import SFTConfig
from tasks.held_out import hold_out
from tasks.rows import DIALOGUE, make_row

QUICK = Resources(microbatch_tokens=256, checkpoint_every_s=1e-6)
CONFIG = SFTConfig(epochs=8, global_batch_size=3, learning_rate=5e-3, warmup_steps=2, resources=QUICK)


def answer_loss(model_folder, dialogues) -> float:
    """Mean loss per trained token, from plain logits of one dialogue at a time."""
    model, tokenizer = load_model(model_folder)
    total, count = 0.0, 0
    for row in dialogues:
        token_ids, trained = encode_dialogue(tokenizer, row["messages"])
        logprobs = model(torch.tensor([token_ids]))[0].log_softmax(-1)
        places = [i for i, flag in enumerate(trained) if flag]
        total -= sum(float(logprobs[i - 1, token_ids[i]].detach()) for i in places)
        count += len(places)
    return total / count


@pytest.fixture
def inputs(workshop, tokenizer, dialogues):
    base = workshop.put_model("base", tokenizer)
    return {"base": base, "dialogues": workshop.put_rows("dialogues", dialogues, DIALOGUE)}


def test_the_model_learns_the_answers(workshop, inputs, dialogues):
    made = workshop.run(sft.run, CONFIG, **inputs)
    before, after = (answer_loss(artifact.folder(), dialogues) for artifact in (inputs["base"], made))
    assert after < 0.7 * before
    manifest = made.manifest()
    assert manifest.counts == {"in": 6, "kept": 6}
    assert manifest.metrics["steps"] == 16
    assert manifest.metrics["final_loss"] < manifest.metrics["mean_loss"] < before
    assert manifest.metrics["trained_tokens_per_epoch"] == sum(len(r["messages"][1]["content"]) + 1 for r in dialogues)
    assert manifest.metrics["tokens_per_s"] > 0
    assert manifest.result["licences"] == ["Apache-2.0", "CC0-1.0"]


def test_a_row_that_teaches_its_last_turn_trains_no_earlier_one(tokenizer):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "bb"},
                {"role": "user", "content": "c"}, {"role": "assistant", "content": "dddd"}]  # fmt: skip
    rows = [
        make_row(DIALOGUE, {"messages": messages, "teaches": teaches}, [teaches]) for teaches in ("last", "all", None)
    ]
    read, _ = sft.read_documents(rows, tokenizer, 512)
    last, every, unsaid = (document for _, document in read)
    assert last.token_ids == every.token_ids
    assert every.trained == unsaid.trained and set(last.trained) < set(every.trained)
    assert min(last.trained) > len(last.token_ids) // 2


def test_first_loss_is_that_of_the_base_on_assistant_turns_only(workshop, inputs, dialogues):
    config = CONFIG.model_copy(update={"global_batch_size": 6})
    workshop.run(sft.run, config, **inputs)
    curve = [event for event in workshop.events if event["event"] == "metrics"]
    assert curve[0]["values"]["loss"] == pytest.approx(answer_loss(inputs["base"].folder(), dialogues), rel=1e-4)
    assert set(curve[0]["values"]) == {
        "loss", "learning_rate", "grad_norm", "tokens_per_s", "model_tflops_per_s", "peak_memory_gib",
        "data_wait_share", "skipped",
    }  # fmt: skip
    assert 0 <= curve[0]["values"]["data_wait_share"] < 0.5 and curve[0]["values"]["model_tflops_per_s"] > 0
    progress = [event for event in workshop.events if event["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] == 8


def test_transformers_opens_the_result_and_gives_the_same_logits(workshop, inputs):
    made = workshop.run(sft.run, CONFIG, **inputs)
    ours, tokenizer = load_model(made.folder())
    theirs = AutoModelForCausalLM.from_pretrained(made.folder())
    token_ids = torch.tensor([tokenizer.encode("Say red twice.")])
    with torch.no_grad():
        torch.testing.assert_close(ours(token_ids), theirs(token_ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("trainable", ["all", "lora"])
def test_interrupted_and_resumed_gives_the_same_bytes(workshop, another_workshop, tokenizer, dialogues, trainable):
    config = CONFIG.model_copy(update={"trainable": trainable, "learning_rate": 1e-2})
    made = []
    for shop in (workshop, another_workshop):
        inputs = {"base": shop.put_model("base", tokenizer),
                  "dialogues": shop.put_rows("dialogues", dialogues, DIALOGUE)}  # fmt: skip
        if shop is another_workshop:
            assert 0 < shop.interrupt(sft.run, config, at_step=9, **inputs) < 9
        made.append(shop.run(sft.run, config, **inputs))
    assert made[0].manifest().sha256() == made[1].manifest().sha256()
    curves = [json.loads(artifact.read_bytes("curves.json")) for artifact in made]
    losses = [[point["values"]["loss"] for point in curve] for curve in curves]
    assert losses[0] == losses[1]
    assert any("resumed at step" in event.get("text", "") for event in another_workshop.events)
    assert not another_workshop.store.list("attempts")


def test_low_rank_training_learns_and_is_merged(workshop, inputs, dialogues):
    config = CONFIG.model_copy(update={"trainable": "lora", "lora_rank": 4, "learning_rate": 3e-2, "epochs": 12})
    made = workshop.run(sft.run, config, **inputs)
    before, after = (answer_loss(artifact.folder(), dialogues) for artifact in (inputs["base"], made))
    assert after < 0.9 * before
    models = [load_model(artifact.folder())[0].state_dict() for artifact in (inputs["base"], made)]
    changed = {name for name in models[0] if not torch.equal(models[0][name], models[1][name])}
    assert changed == {name for name in models[0] if "_proj" in name}


def test_microbatches_are_no_part_of_the_result(workshop, inputs):
    """Resources change the address of nothing and the weights by rounding only."""
    small = CONFIG.model_copy(update={"resources": Resources(microbatch_tokens=16)})
    assert small.recipe() == CONFIG.recipe()
    first = load_model(workshop.run(sft.run, CONFIG, **inputs).folder())[0]
    output = workshop.output("sft", "checkpoint", "f" * 32)
    outcome = sft.run(small, output, **inputs)
    assert outcome.metrics["steps"] == 16
    second = output.commit(outcome, recipe={}, inputs={}, version=1, label="", device="", wall_s=0, code_version="")
    for mine, theirs in zip(first.parameters(), load_model(second.folder())[0].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=2e-3)


def test_rows_that_cannot_be_trained_on_are_counted(workshop, tokenizer, dialogues):
    question = [{"role": "user", "content": "Anyone?"}]
    values = {"family": "test", "source": "test", "synthetic": False, "generator": "", "licence": ""}
    unanswered = make_row(DIALOGUE, values | {"messages": question}, question)
    long = [*question, {"role": "assistant", "content": "no " * 200}]
    rows = [*dialogues, unanswered, make_row(DIALOGUE, values | {"messages": long}, long)]
    config = CONFIG.model_copy(update={"epochs": 1, "max_tokens": 80})
    inputs = {"base": workshop.put_model("base", tokenizer), "dialogues": workshop.put_rows("some", rows, DIALOGUE)}
    counts = workshop.run(sft.run, config, **inputs).manifest().counts
    assert counts == {"in": 8, "kept": 6, "dropped:no assistant turn": 1, "dropped:over 80 tokens": 1}


def test_nothing_to_train_on_is_an_error_with_counts(workshop, inputs):
    config = CONFIG.model_copy(update={"max_tokens": 8})
    with pytest.raises(EmptyDataset, match=r"'kept': 0, 'dropped:over 8 tokens': 6"):
        workshop.run(sft.run, config, **inputs)


def test_training_that_diverges_says_so(workshop, inputs, tokenizer):
    weights = inputs["base"].folder() / "model.safetensors"
    assert weights.exists()
    model, _ = load_model(inputs["base"].folder())
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    broken = workshop.folder / "broken"
    save_model(model, tokenizer, broken)
    base = workshop.put("broken", lambda output: output.write_folder(broken), kind="checkpoint")
    config = CONFIG.model_copy(update={"epochs": 20})
    with pytest.raises(StageFailed, match="NaN or Inf in 20 steps in a row"):
        workshop.run(sft.run, config, base=base, dialogues=inputs["dialogues"])


def test_a_base_without_weights_is_named(workshop, inputs):
    empty = workshop.put("empty", lambda output: output.write_text("note.txt", "nothing"), kind="checkpoint")
    with pytest.raises(InputError, match=r"config\.json"):
        workshop.run(sft.run, CONFIG, base=empty, dialogues=inputs["dialogues"])


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 0), ("epochs", 0), ("global_batch_size", 0), ("schedule", "linear"), ("trainable", "some"),
     ("max_tokens", 1), ("clip_norm", 0), ("final_fraction", 0), ("adam_beta2", 1.0), ("lerning_rate", 1e-5)],
)  # fmt: skip
def test_wrong_settings_name_their_field(field, value):
    with pytest.raises(ValidationError, match=field):
        SFTConfig(**{field: value})


def test_the_best_weights_by_held_out_rows_are_the_result(workshop, inputs, dialogues):
    """At such a rate the loss of what is held out soon rises: an earlier step's weights come out, also after a stop."""
    changes = {"validation_fraction": 0.3, "evaluate_every": 1, "learning_rate": 0.3, "steps": 8}
    config = CONFIG.model_copy(update=changes)
    assert workshop.interrupt(sft.run, config, 6, **inputs) >= 1
    made = workshop.run(sft.run, config, **inputs)
    metrics, counts = made.manifest().metrics, made.manifest().counts
    assert counts["kept"] == 6 and metrics["examples"] == 4 and metrics["best_step"] < 8
    curve = json.loads((made.folder() / "curves.json").read_text())
    losses = {point["step"]: point["values"]["validation_loss"] for point in curve}
    assert metrics["best_validation_loss"] == min(losses.values()) == losses[metrics["best_step"]]
    _, held_out = hold_out(dialogues, sft.first_words, 0.3, config.seed)
    assert answer_loss(made.folder(), held_out) == pytest.approx(metrics["best_validation_loss"], rel=1e-4)
