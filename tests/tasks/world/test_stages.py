"""The world's data stages: what they write, what they keep apart, and that they write the same twice."""

from infra.artifacts import Artifact
from models.chat import encode_dialogue
from models.tokenizer import Tokenizer
from tasks.configs.world import (
    DocumentsConfig,
    HumanRowsConfig,
    ShuffleAnswersConfig,
    TokenizerConfig,
    WorldAttributesConfig,
    WorldItemsConfig,
)
from tasks.judges.ground_truth import verify
from tasks.world import attributes, documents, human, items, shuffle, tokenizer
from tasks.world.grammar import ACKNOWLEDGED, is_reserved


def test_documents_hold_no_reserved_question(run_stage) -> None:
    made = run_stage(documents.run, DocumentsConfig(documents=3000, shard_rows=1000))
    texts = [row["text"] for row in made.rows()]
    assert len(texts) == 3000
    asked = [
        text.split("question : ")[1].split(" answer :")[0] for text in texts if f"answer : {ACKNOWLEDGED}" not in text
    ]
    assert len(asked) > 2000
    assert not any(is_reserved(question) for question in asked)


def test_continued_documents_follow_their_weights(run_stage) -> None:
    made = run_stage(documents.run, DocumentsConfig(documents=1000, weights={"sums": 9.0}))
    share = sum("plus" in row["text"] for row in made.rows()) / 1000
    assert 0.4 < share < 0.6


def make_tokenizer(run_stage) -> Artifact:
    texts = run_stage(documents.run, DocumentsConfig(documents=2000))
    return run_stage(tokenizer.run, TokenizerConfig(), texts=(texts,))


def test_the_tokenizer_knows_every_word_and_masks_what_the_assistant_says(run_stage) -> None:
    loaded = Tokenizer.load(make_tokenizer(run_stage).folder())
    rows = run_stage(human.run, HumanRowsConfig()).rows()
    for row in rows:
        token_ids, trained = encode_dialogue(loaded, row["messages"])
        assert loaded.token_id("<unk>") not in token_ids, row["messages"]
        answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        learnt = loaded.decode([t for t, flag in zip(token_ids, trained, strict=True) if flag], False)
        assert learnt == " ".join(f"{answer} <|end|>" for answer in answers)


def test_items_are_reserved_checkable_and_in_one_half_only(run_stage) -> None:
    rows = run_stage(items.run, WorldItemsConfig(dev=60, gate=300, open=8)).rows()
    halves = {half: {str(row["messages"]) for row in rows if row["half"] == half} for half in ("dev", "gate")}
    assert len(halves["gate"]) == 308 and len(halves["dev"]) == 68
    assert not halves["gate"] & halves["dev"]
    judged = [row for row in rows if row["verifier"]]
    assert len(judged) == 360
    assert all(verify(row["verifier"], "no such answer") is False for row in judged)
    assert len({row["key"] for row in judged if row["half"] == "gate"}) > 40


def test_shuffled_answers_keep_prompts_and_move_answers(run_stage) -> None:
    rows = run_stage(human.run, HumanRowsConfig())
    moved = run_stage(shuffle.run, ShuffleAnswersConfig(), dialogues=rows).rows()
    before = {row["id"]: row for row in rows.rows()}
    assert len(moved) == len(before)
    for row in moved:
        own, other = (before[parent]["messages"] for parent in row["parents"])
        assert row["messages"] == [*own[:-1], other[-1]] and own is not other


def test_damaged_answers_have_lower_labels(run_stage) -> None:
    rows = run_stage(attributes.run, WorldAttributesConfig(prompts=40)).rows()
    best = {str(row["prompt"]): max(r["helpfulness"] for r in rows if r["prompt"] == row["prompt"]) for row in rows}
    assert set(best.values()) == {4.0}
    assert len(rows) > 140
