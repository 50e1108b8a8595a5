"""A plan's part for pretraining: the world's documents or texts by name, and what does not go together."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.steps import make_step
from infra.output import Output
from infra.storage import Storage
from tasks.configs.pretraining_data import TrainTokenizerConfig, nemotron_blend
from tasks.configs.pretraining_plan import PretrainingPlan
from tasks.configs.sources import SourceConfig
from tasks.configs.training import PretrainConfig, SFTConfig
from tasks.configs.world import DocumentsConfig, HumanRowsConfig, TokenizerConfig
from tasks.world.documents import run as write_documents

TEXT = {"reader": "plain_text", "path": "/data"}
NAMED = dict.fromkeys(nemotron_blend(), TEXT)
OWN: dict[str, Any] = {
    "documents": NAMED, "continued_documents": NAMED, "tokenizer": {"vocabulary": 1000},
    "human_rows": {"reader": "human_sft", "path": "/people.jsonl"}, "main": {"mixture": "nemotron"}, "continued": {},
    "teacher_sft": {},
}  # fmt: skip
WORLD: dict[str, Any] = {
    "documents": {"documents": 5}, "continued_documents": {"weights": {"sums": 2.0}}, "tokenizer": {}, "human_rows": {},
    "main": {}, "continued": {}, "teacher_sft": {},
}  # fmt: skip


def made(values: dict[str, Any], **changes: Any) -> PretrainingPlan:
    return PretrainingPlan.model_validate(values | changes)


def test_texts_by_name() -> None:
    plan = made(OWN)
    assert isinstance(plan.tokenizer, TrainTokenizerConfig) and isinstance(plan.human_rows, SourceConfig)
    assert [*plan.named("documents")] == ["code", "english", "multilingual"], "their order in the file says nothing"
    assert [*plan.sources()] == [
        *(f"{phase}.{name}" for phase in ("documents", "continued_documents") for name in sorted(NAMED)), "human_rows",
    ]  # fmt: skip
    assert plan.tokenize_as("code").source == "code"
    assert PretrainingPlan.model_validate(plan.model_dump()) == plan


def test_the_world_s_documents_are_as_they_were() -> None:
    plan = made(WORLD)
    assert plan.named("documents") == {"": DocumentsConfig(documents=5)}
    assert plan.named("continued_documents") == {"": DocumentsConfig(weights={"sums": 2.0})}
    assert (plan.tokenizer, plan.human_rows) == (TokenizerConfig(), HumanRowsConfig())
    assert plan.sources() == {} and plan.tokenize_as("") == plan.tokenize
    whole = PretrainingPlan(
        documents=DocumentsConfig(), continued_documents=DocumentsConfig(), tokenizer=TokenizerConfig(),
        human_rows=HumanRowsConfig(), main=PretrainConfig(), continued=PretrainConfig(), teacher_sft=SFTConfig(),
    )  # fmt: skip
    assert PretrainingPlan.model_validate(whole.model_dump()) == whole


def test_null_takes_a_source_out() -> None:
    mixture = nemotron_blend() | {"code": None}
    plan = made(OWN, documents=NAMED | {"code": None}, main={"mixture": mixture})
    assert [*plan.named("documents")] == ["english", "multilingual"]


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ({"documents": {}}, "", "documents is empty: name a source"),
        ({"continued_documents": {"english": None}}, "", "continued_documents is empty"),
        ({"documents": NAMED | {"a/b": TEXT}}, "", "a source called 'a/b'"),
        ({"documents": {"english": TEXT, "code": TEXT}}, "",
         r"documents and main do not fit: mixture has weights for \['multilingual'\]; .* \['english', 'code'\]"),
        ({"documents": NAMED | {"maths": TEXT}}, "", r"mixture has no weight for \['maths'\]"),
        ({"continued": {"second_mixture": {"questions": 1.0}, "switch_at": 0.5}}, "",
         r"continued_documents and continued do not fit: second_mixture has weights for \['questions'\]"),
        ({"documents": NAMED | {"code": TEXT | {"reader": "chats"}}}, "", "documents.code: the reader 'chats' gives"),
        ({"documents": NAMED | {"code": TEXT | {"reader": "text"}}}, "documents.code", "no source reader 'text'"),
        ({"documents": NAMED | {"code": TEXT | {"pth": 1}}}, "documents.code.pth", "Extra inputs"),
        ({"tokenizer": {}}, "", r"tokenizer knows the procedural world's words only, and \['documents.code', "),
        ({"tokenizer": {"vocabulary": 9}}, "tokenizer.vocabulary", "greater than or equal to 300"),
        ({"tokenizer": {"vocabulary": 500, "chat_template": "none"}}, "", "set it to chatml"),
        ({"human_rows": {}}, "", "give human_rows a source of dialogues"),
        ({"human_rows": TEXT}, "", "human_rows is a source of documents; expected one of dialogues"),
        ({"human_rows": {"reader": "human_sft"}}, "human_rows.path", "Field required"),
        ({"main": {"mixture": "nemotron", "learning_rate_from": "base"}}, "", "main.learning_rate_from is base"),
        ({"main": {"mixture": "nemotron", "trainable": "lora"}}, "", "main.trainable is 'lora'.*: set it to all"),
        ({"tokenize": {"source": "mine"}}, "", "tokenize.source is 'mine': leave it out"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said(changes: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words) as error:
        made(OWN, **changes)
    assert ".".join(map(str, error.value.errors()[0]["loc"])) == place


def test_mixtures_call_the_world_s_documents_by_what_their_rows_say(tmp_path: Path) -> None:
    plan = made(WORLD, main={"mixture": {"world": 1.0}})
    with pytest.raises(ValidationError, match=r"continued_documents and continued do not fit: .*\['world'\]"):
        made(WORLD, continued={"mixture": "nemotron"})
    assert isinstance(plan.documents, DocumentsConfig)
    store = Storage.open(str(tmp_path))
    artifact = make_step("documents", plan.documents, store.uri, {}).artifact
    output = Output(artifact, store, lambda event: None, tmp_path)
    write_documents(plan.documents, output)
    assert {row["source"] for row in output.read_shard(0)} == {*plan.main.mixture}


def test_null_is_no_mixture() -> None:
    late = {"mixture": None, "second_mixture": None, "switch_at": 0.9}
    plan = made(OWN, main={"mixture": None}, continued=late)
    assert plan.main == PretrainConfig() == plan.continued


def test_the_world_s_tokenizer_reads_no_texts_of_the_continued_phase_either() -> None:
    with pytest.raises(ValidationError, match=r"\['continued_documents.english'\] are texts of your own"):
        made(WORLD, continued_documents={"english": TEXT})
