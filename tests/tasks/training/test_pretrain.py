import pytest
import torch
from transformers import AutoModelForCausalLM

from infra.errors import EmptyDataset, InputError
from models.chat import CHATML_TEMPLATE
from models.checkpoint import load_model
from models.tokenizer import Tokenizer
from tasks import pretrain, tokenize
from tasks.configs.base import Resources
from tasks.configs.pretraining_data import RampStep, TokenizeConfig, nemotron_batch_ramp, nemotron_blend
from tasks.configs.training import ModelShape, PretrainConfig
from tasks.rows import TEXT, make_row

QUICK = Resources(microbatch_tokens=128, checkpoint_every_s=1e-6)
SHAPE = ModelShape(hidden_size=32, intermediate_size=64, num_heads=4, num_kv_heads=2, head_dim=8, max_positions=64)
CONFIG = PretrainConfig(
    model=SHAPE, learning_rate=1e-2, warmup_steps=2, steps=20, tokens_per_step=96, max_tokens=24, resources=QUICK
)
TEXTS = ["the cat sat on the mat.", "a dog ran in the park and came home again.", "tea is hot.", "one two three four"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RATCHET_WORKSPACE", str(tmp_path / "workspace"))


def text_row(text: str, source: str = "t") -> dict:
    values = {"text": text, "source": source, "synthetic": False, "generator": "", "licence": "CC0-1.0"}
    return make_row(TEXT, values, text)


def given(shop, tokenizer, texts=TEXTS, source: str = "t") -> dict:
    words = shop.put("tokenizer", lambda output: save_tokenizer(output, tokenizer), kind="checkpoint")
    rows = shop.put_rows(f"texts {source} {len(texts)}", [text_row(text, source) for text in texts], TEXT)
    return {"tokens": shop.run(tokenize.run, TokenizeConfig(), texts=rows, tokenizer=words), "tokenizer": words}


def blend(shop, tokenizer) -> dict:
    """Three sources of very different sizes, in artifacts of their own."""
    sizes = {"english": 12, "multilingual": 4, "code": 6}
    made = [
        given(shop, tokenizer, [f"{source} {number} is here." for number in range(size)], source)
        for source, size in sizes.items()
    ]
    return {"tokens": tuple(one["tokens"] for one in made), "tokenizer": made[0]["tokenizer"]}


def save_tokenizer(output, tokenizer) -> None:
    folder = output.scratch_folder()
    tokenizer.save(folder)
    output.write_folder(folder)


def document_loss(folder, text: str) -> float:
    """Mean next-token loss of a whole short document, by transformers."""
    tokenizer = Tokenizer.load(folder)
    ids = torch.tensor([[*tokenizer.encode(text), tokenizer.eos_id]])
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return float(model(ids, labels=ids).loss)


def test_a_fresh_model_learns_the_documents_and_the_continued_phase_goes_on_from_it(workshop, tokenizer):
    inputs = given(workshop, tokenizer)
    main = workshop.run(pretrain.run, CONFIG, **inputs)
    manifest = main.manifest()
    assert manifest.metrics["final_loss"] < 0.8 * manifest.metrics["mean_loss"]
    assert manifest.metrics["steps"] == 20
    assert manifest.counts == {"in": 4, "kept": 4}
    assert manifest.result["licences"] == ["CC0-1.0"]
    corpus = sum(len(tokenizer.encode(text)) + 1 for text in TEXTS)
    assert manifest.metrics["corpus_tokens"] == corpus
    continued = CONFIG.model_copy(update={"schedule": "decay", "warmup_steps": 0})
    late = workshop.run(pretrain.run, continued, base=main, **inputs)
    before, after = (document_loss(artifact.folder(), TEXTS[2]) for artifact in (main, late))
    assert after < before


def test_first_loss_is_the_mean_over_all_tokens_of_the_batch(workshop, tokenizer):
    one = given(workshop, tokenizer, TEXTS[2:3])
    config = CONFIG.model_copy(update={"steps": 1, "tokens_per_step": 16, "learning_rate": 1e-9})
    made = workshop.run(pretrain.run, config, **one)
    curve = [event for event in workshop.events if event["event"] == "metrics"]
    assert curve[0]["values"]["loss"] == pytest.approx(document_loss(made.folder(), TEXTS[2]), rel=1e-4)


def test_interrupted_and_resumed_gives_the_same_bytes(workshop, another_workshop, tokenizer):
    made = []
    for shop in (workshop, another_workshop):
        inputs = given(shop, tokenizer)
        if shop is another_workshop:
            assert 0 < shop.interrupt(pretrain.run, CONFIG, at_step=11, **inputs) < 20
        made.append(shop.run(pretrain.run, CONFIG, **inputs))
    assert made[0].manifest().sha256() == made[1].manifest().sha256()


def test_a_base_with_another_tokenizer_is_refused(workshop, tokenizer):
    other = Tokenizer(tokenizer.backend, CHATML_TEMPLATE, tokenizer.eos_id, tokenizer.eos_id, tokenizer.pad_id)
    base = workshop.put_model("base", other)
    with pytest.raises(InputError, match="tokenizer"):
        workshop.run(pretrain.run, CONFIG, base=base, **given(workshop, tokenizer))


def test_no_documents_is_an_empty_dataset(workshop, tokenizer):
    inputs = given(workshop, tokenizer)
    row = inputs["tokens"].rows()[0] | {"token_ids": [1]}
    fill = lambda output: output.write_shard(0, [row], tokenize.TOKENS)  # noqa: E731
    short = workshop.put("short", fill, tokenizer=tokenizer.digest())
    with pytest.raises(EmptyDataset, match="documents"):
        workshop.run(pretrain.run, CONFIG, **inputs | {"tokens": short})


def test_tokens_of_another_tokenizer_are_refused(workshop, tokenizer):
    inputs = given(workshop, tokenizer)
    other = Tokenizer(tokenizer.backend, "", None, tokenizer.eos_id, tokenizer.pad_id)
    words = workshop.put("other", lambda output: save_tokenizer(output, other), kind="checkpoint")
    with pytest.raises(InputError, match="holds tokens of the tokenizer"):
        workshop.run(pretrain.run, CONFIG, **inputs | {"tokenizer": words})
    texts = workshop.put_rows("plain", [text_row("a text")], TEXT)
    with pytest.raises(InputError, match="holds no tokens"):
        workshop.run(pretrain.run, CONFIG, **inputs | {"tokens": texts})


def test_the_vocabulary_and_the_stops_are_the_tokenizers(workshop, tokenizer):
    model, _ = load_model(workshop.run(pretrain.run, CONFIG, **given(workshop, tokenizer)).folder())
    assert model.config.vocab_size == tokenizer.vocab_size
    assert model.config.eos_ids[0] == tokenizer.eos_id


def test_the_continued_phase_starts_at_the_rate_that_the_main_phase_ended_with(workshop, tokenizer):
    inputs = given(workshop, tokenizer)
    falling = {"schedule": "cosine", "final_fraction": 0.25, "steps": 6}
    main = workshop.run(pretrain.run, CONFIG.model_copy(update=falling), **inputs)
    assert main.manifest().metrics["final_learning_rate"] == pytest.approx(2.5e-3)
    workshop.events.clear()
    steep = {"schedule": "decay", "final_fraction": 0.01, "warmup_steps": 0, "steps": 6, "learning_rate_from": "base"}
    late = workshop.run(pretrain.run, CONFIG.model_copy(update=steep), base=main, **inputs)
    rates = [event["values"]["learning_rate"] for event in workshop.events if event["event"] == "metrics"]
    assert rates == pytest.approx([2.5e-3 * 0.01 ** (step / 6) for step in range(1, 7)])
    found = late.manifest().metrics
    assert (found["full_learning_rate"], found["final_learning_rate"]) == pytest.approx((2.5e-3, 2.5e-5))


def test_a_base_that_knows_no_rate_is_refused(workshop, tokenizer):
    config = CONFIG.model_copy(update={"learning_rate_from": "base"})
    inputs = given(workshop, tokenizer)
    with pytest.raises(InputError, match="no base to go on from"):
        workshop.run(pretrain.run, config, **inputs)
    with pytest.raises(InputError, match="does not say with which learning rate"):
        workshop.run(pretrain.run, config, base=workshop.put_model("base", tokenizer), **inputs)


def test_the_paper_s_blend_is_followed_and_counted(workshop, tokenizer):
    config = PretrainConfig(**CONFIG.model_dump(exclude={"mixture"}), mixture=nemotron_blend())
    found = workshop.run(pretrain.run, config, **blend(workshop, tokenizer)).manifest().metrics
    taken = {source: found[f"tokens/{source}"] for source in nemotron_blend()}
    assert sum(taken.values()) == found["tokens"]
    for source, weight in nemotron_blend().items():
        assert taken[source] == pytest.approx(weight * found["tokens"], abs=2 * 24)
    assert all(found[f"epochs/{source}"] > 2 for source in taken), "small sources come round again"


def test_a_second_distribution_after_the_switch(workshop, tokenizer):
    update = {"mixture": {"english": 1.0}, "second_mixture": {"code": 1.0, "multilingual": 3.0}, "switch_at": 0.75}
    config = PretrainConfig(**CONFIG.model_dump(exclude={*update}), **update)
    found = workshop.run(pretrain.run, config, **blend(workshop, tokenizer)).manifest().metrics
    assert found["tokens/english"] == pytest.approx(0.75 * found["tokens"], rel=0.05)
    assert found["tokens/multilingual"] == pytest.approx(3 * found["tokens/code"], abs=3 * 24)


def test_a_ramp_resumed_gives_the_same_bytes(workshop, another_workshop, tokenizer):
    update = {"batch_ramp": (RampStep(from_tokens=400, tokens_per_step=192),), "mixture": nemotron_blend()}
    config = PretrainConfig(**CONFIG.model_dump(exclude={*update}), **update)
    made = []
    for shop in (workshop, another_workshop):
        inputs = blend(shop, tokenizer)
        if shop is another_workshop:
            shop.interrupt(pretrain.run, config, at_step=11, **inputs)
        made.append(shop.run(pretrain.run, config, **inputs))
    assert made[0].manifest().sha256() == made[1].manifest().sha256()
    assert 20 * 96 < made[0].manifest().metrics["tokens"] <= config.most_tokens


@pytest.mark.parametrize(
    ("mixture", "words"),
    [
        ({"english": 1.0, "french": 1.0}, r"mixture has weights for \['french'\]"),
        ({"english": 1.0, "code": 1.0}, r"no weight for \['multilingual'\]"),
    ],
)
def test_weights_name_the_sources_of_the_documents(workshop, tokenizer, mixture, words):
    with pytest.raises(InputError, match=words):
        workshop.run(pretrain.run, CONFIG.model_copy(update={"mixture": mixture}), **blend(workshop, tokenizer))


def test_the_paper_s_blend_goes_by_a_word():
    named = PretrainConfig(mixture="nemotron")  # type: ignore[arg-type]
    assert named == PretrainConfig(mixture=nemotron_blend())
    assert PretrainConfig(mixture={"english": 1.0, "code": None}).mixture == {"english": 1.0}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mixture": {"a": 0.0}}, "weights {'a': 0.0}: expected numbers above 0"),
        ({"mixture": {"a": float("nan")}}, "expected numbers above 0"),
        ({"second_mixture": {"a": 1.0}}, "switch_at below 1, or neither"),
        ({"switch_at": 0.5}, "switch_at below 1, or neither"),
        ({"second_mixture": {"a": 1.0}, "switch_at": 0.01, "steps": 10}, "leaves one of the mixtures no step"),
        ({"batch_ramp": [{"from_tokens": 9, "tokens_per_step": 32}] * 2}, "expected rising numbers"),
        ({"batch_ramp": "steep"}, "expected 'nemotron', the paper's ramp"),
        ({"mixture": "nemotrn"}, "expected 'nemotron', the paper's blend"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        PretrainConfig(**settings)


def test_the_paper_s_batch_ramp():
    """200 and 200 billion tokens at 768 and 1536 sequences, 7600 at 2304: the paper's table of iterations."""
    size = 768 * 4096
    ramp = PretrainConfig(tokens_per_step=size, batch_ramp="nemotron").batch_ramp  # type: ignore[arg-type]
    assert [step.tokens_per_step for step in ramp] == [count * 4096 for count in (1536, 2304)]
    assert ramp == nemotron_batch_ramp(size)
    steps = (63_579, 31_789, 805_325)
    for count, tokens in ((steps[0], 200e9), (sum(steps[:2]), 400e9), (sum(steps), 8000e9)):
        config = PretrainConfig(tokens_per_step=size, batch_ramp=ramp, steps=count)
        assert config.most_tokens == pytest.approx(tokens, rel=1e-4)
