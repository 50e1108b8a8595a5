"""Documents become token shards: streamed, resumable, counted by source, traceable to their rows."""

import pytest

from infra.errors import EmptyDataset, InputError
from models.tokenizer import Tokenizer
from tasks import tokenize
from tasks.configs.pretraining_data import TokenizeConfig
from tasks.rows import TEXT, make_row
from tasks.token_corpus import open_tokens

HUMAN = {"synthetic": False, "generator": ""}
TEXTS = {"web": ["한국어 글 👍", "the cat", "", "  two  spaces\n"], "code": ["def f(x):\n    return 1"]}


def rows(texts: dict[str, list[str]] = TEXTS) -> list[dict]:
    licences = {"web": "CC0-1.0", "code": "MIT"}
    return [
        make_row(TEXT, {"text": text, "source": source, "licence": licences[source], **HUMAN}, text)
        for source, found in texts.items()
        for text in found
    ]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RATCHET_WORKSPACE", str(tmp_path / "workspace"))


@pytest.fixture
def inputs(give, give_rows, tokenizer):
    def fill(output) -> None:
        folder = output.scratch_folder()
        tokenizer.save(folder)
        output.write_folder(folder)

    words = give("tokenizer", fill, kind="checkpoint")
    return {"texts": give_rows("texts", rows(), TEXT), "tokenizer": words}


def test_every_document_ends_with_the_end_of_text_and_knows_its_row(run_stage, inputs, tokenizer):
    made = run_stage(tokenize.run, TokenizeConfig(shard_rows=2), **inputs)
    kept = [row for row in rows() if row["text"]]
    found = made.rows()
    assert [row["token_ids"] for row in found] == [[*tokenizer.encode(r["text"]), tokenizer.eos_id] for r in kept]
    assert [row["parents"] for row in found] == [[row["id"]] for row in kept]
    assert [(row["source"], row["licence"]) for row in found] == [(row["source"], row["licence"]) for row in kept]
    assert len({row["id"] for row in found}) == len(kept)
    assert made.parts() == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]


def test_documents_and_tokens_are_counted_by_source(run_stage, inputs, tokenizer):
    manifest = run_stage(tokenize.run, TokenizeConfig(), **inputs).manifest()
    counted = {
        source: {"documents": len([*filter(None, texts)]),
                 "tokens": sum(len(tokenizer.encode(text)) + 1 for text in texts if text)}
        for source, texts in TEXTS.items()
    }  # fmt: skip
    assert manifest.result["sources"] == counted
    assert manifest.metrics["tokens/web"] == counted["web"]["tokens"]
    assert manifest.metrics["tokens"] == sum(found["tokens"] for found in counted.values())
    assert manifest.counts == {"in": 5, "kept": 4, "dropped:empty": 1}
    assert manifest.result["licences"] == ["CC0-1.0", "MIT"] and manifest.rows == 4


def test_a_licence_that_is_not_stated_is_told_too(run_stage, inputs, give_rows):
    bare = [make_row(TEXT, {"text": "the cat", "source": "web", "licence": "", **HUMAN}, "cat")]
    texts = (inputs["texts"], give_rows("bare", bare, TEXT))
    made = run_stage(tokenize.run, TokenizeConfig(), **inputs | {"texts": texts})
    assert made.manifest().result["licences"] == ["CC0-1.0", "MIT", "unknown"]


def test_documents_go_by_the_name_that_the_settings_give_them(run_stage, inputs):
    made = run_stage(tokenize.run, TokenizeConfig(source="mine"), **inputs)
    assert {row["source"] for row in made.rows()} == {*made.manifest().result["sources"]} == {"mine"}
    plain = run_stage(tokenize.run, TokenizeConfig(), **inputs)
    assert [row["token_ids"] for row in made.rows()] == [row["token_ids"] for row in plain.rows()]


def test_a_restarted_job_writes_only_the_shards_that_are_missing(run_stage, interrupt, inputs, store, monkeypatch):
    config = TokenizeConfig(shard_rows=2)
    interrupt(tokenize.run, config, 1, **inputs)
    (key,) = [key for key in store.list("artifacts/tokenize") if key.endswith(".parquet")]
    encoded = []
    encode = tokenize.Encoder.encode
    monkeypatch.setattr(tokenize.Encoder, "encode", lambda self, some: encoded.extend(some) or encode(self, some))
    made = run_stage(tokenize.run, config, **inputs)
    assert len(encoded) == 3, "the first shard's two documents are not encoded again"
    assert made.manifest().counts == {"in": 5, "kept": 4, "dropped:empty": 1}
    assert made.manifest().metrics["documents/web"] == 3
    assert key.endswith("part-00000.parquet") and made.verify() == []


def test_several_artifacts_open_as_one_corpus(run_stage, inputs, give_rows, tokenizer, tmp_path):
    more = give_rows("more", rows({"code": ["x = 1"]}), TEXT)
    parts = [run_stage(tokenize.run, TokenizeConfig(shard_rows=3), **inputs | {"texts": texts})
             for texts in (inputs["texts"], (more,))]  # fmt: skip
    shards = open_tokens(parts, tokenizer)
    assert [shards.tokens(n).tolist() for n in range(len(shards))] == [r["token_ids"] for p in parts for r in p.rows()]
    assert shards.sources == ("code", "web") and shards.source_of.tolist() == [1, 1, 1, 0, 0]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "workspace").rglob("*.arrow")}
    open_tokens(parts, tokenizer)
    assert len(files) == 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "workspace").rglob("*")
            if path.is_file()} == files, "converted once"  # fmt: skip


def test_nothing_to_tokenize_is_an_empty_dataset(run_stage, inputs, give_rows):
    empty = give_rows("empty", rows({"web": [""]}), TEXT)
    with pytest.raises(EmptyDataset, match="dropped:empty"):
        run_stage(tokenize.run, TokenizeConfig(), **inputs | {"texts": empty})


def test_a_tokenizer_without_an_end_is_refused(run_stage, inputs, give, tokenizer, tmp_path):
    Tokenizer(tokenizer.backend).save(tmp_path / "endless")
    words = give("endless", lambda output: output.write_folder(tmp_path / "endless"), kind="checkpoint")
    with pytest.raises(InputError, match="no end-of-text token"):
        run_stage(tokenize.run, TokenizeConfig(), **inputs | {"tokenizer": words})
