import pytest
import torch
from transformers import AutoModelForCausalLM

from infra.errors import EmptyDataset, InputError
from models.chat import CHATML_TEMPLATE
from models.checkpoint import load_model
from models.tokenizer import Tokenizer
from tasks import pretrain
from tasks.configs.base import Resources
from tasks.configs.training import ModelShape, PretrainConfig
from tasks.pretrain import cut
from tasks.rows import TEXT, make_row

QUICK = Resources(microbatch_tokens=128, checkpoint_every_s=1e-6)
SHAPE = ModelShape(hidden_size=32, intermediate_size=64, num_heads=4, num_kv_heads=2, head_dim=8, max_positions=64)
CONFIG = PretrainConfig(
    model=SHAPE, learning_rate=1e-2, warmup_steps=2, steps=20, tokens_per_step=96, max_tokens=24, resources=QUICK
)
TEXTS = ["the cat sat on the mat.", "a dog ran in the park and came home again.", "tea is hot.", "one two three four"]


def text_row(text: str) -> dict:
    values = {"text": text, "source": "t", "synthetic": False, "generator": "", "licence": "CC0-1.0"}
    return make_row(TEXT, values, text)


def given(shop, tokenizer) -> dict:
    return {
        "texts": shop.put_rows("texts", [text_row(text) for text in TEXTS], TEXT),
        "tokenizer": shop.put("tokenizer", lambda output: save_tokenizer(output, tokenizer), kind="checkpoint"),
    }


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
    one = workshop.put_rows("one", [text_row(TEXTS[2])], TEXT)
    config = CONFIG.model_copy(update={"steps": 1, "tokens_per_step": 16, "learning_rate": 1e-9})
    made = workshop.run(pretrain.run, config, **given(workshop, tokenizer) | {"texts": one})
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
    empty = workshop.put_rows("empty", [], TEXT)
    with pytest.raises(EmptyDataset, match="documents"):
        workshop.run(pretrain.run, CONFIG, **given(workshop, tokenizer) | {"texts": empty})


def test_the_vocabulary_and_the_stops_are_the_tokenizers(workshop, tokenizer):
    model, _ = load_model(workshop.run(pretrain.run, CONFIG, **given(workshop, tokenizer)).folder())
    assert model.config.vocab_size == tokenizer.vocab_size
    assert model.config.eos_ids[0] == tokenizer.eos_id


@pytest.mark.parametrize("length", [2, 9, 10, 11, 20, 21, 22])
def test_every_token_but_the_first_is_trained_once(length):
    pieces = list(cut(range(length), 10))
    trained = [piece.token_ids[place] for piece in pieces for place in piece.trained]
    assert trained == list(range(1, length))
    assert all(len(piece.inputs) <= 10 for piece in pieces)
