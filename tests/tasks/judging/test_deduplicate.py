"""Clean-up: what is a duplicate, what overlaps with the examination, and what must stay."""

import random
from itertools import count

import pytest

from infra.errors import EmptyDataset, InputError, StageFailed
from infra.parquet import open_parquet, read_rows
from tasks import deduplicate, streams
from tasks.configs.mix import DeduplicateConfig
from tasks.dropped import FILE
from tasks.rows import DIALOGUE, ITEM, PROMPT, RESPONSE, make_row
from tasks.shingles import OPERATOR, words_of


@pytest.fixture
def prompt():
    def make(text):
        messages = [{"role": "user", "content": text}]
        values = {"family": "open", "messages": messages, "source": "test", "synthetic": True, "licence": "CC0-1.0"}
        return make_row(PROMPT, values, messages)

    return make


@pytest.fixture
def clean(run_stage, put_rows, item):
    names = count()

    def make(rows, schema, items=(), **settings):
        asked = list(items) or [item("What is the tallest mountain of the continent called Africa?", "kilimanjaro")]
        inputs = {
            "rows": put_rows(f"rows {next(names)}", rows, schema),
            "evaluation_set": put_rows("items", asked, ITEM),
        }
        return run_stage(deduplicate.run, DeduplicateConfig(**settings), **inputs)

    return make


def texts(artifact):
    return [row["messages"][0]["content"] for row in artifact.rows()]


def test_equal_and_similar_prompts_go_and_the_first_stays(clean, prompt):
    long = "Tell me how a sewing machine makes a stitch in thick cloth and what can go wrong with it at home"
    rows = [prompt(long), prompt(long.upper() + "!"), prompt(long + " please"), prompt("How do tides work?")]
    artifact = clean(rows, PROMPT)
    assert texts(artifact) == [long, "How do tides work?"]
    assert artifact.manifest().counts == {"in": 4, "kept": 2, "dropped:equal": 1, "dropped:near_duplicate": 1}


def test_operators_tell_sums_apart(clean, prompt):
    asked = ["What is 17 + 25?", "What is 17 - 25?", "What is 17 + 26?"]
    assert texts(clean([prompt(text) for text in asked], PROMPT)) == asked


def test_answers_to_one_prompt_are_no_duplicates(clean, response):
    rows = [response("Why?", "Because the sun warms the sea."), response("Why?", "Nobody knows this for sure yet.")]
    assert clean(rows, RESPONSE).manifest().counts == {"in": 2, "kept": 2}


def test_rows_pass_unchanged_with_their_schema(clean, dialogue):
    rows = [dialogue("Hello there my friend", "Hi!"), dialogue("What is a loop?", "It repeats.")]
    artifact = clean(rows, DIALOGUE)
    assert artifact.rows() == rows and artifact.table().schema.equals(DIALOGUE)
    assert artifact.table().schema.metadata == DIALOGUE.metadata


EXAM = "Describe in detail how the old lighthouse of Alexandria guided ships into the harbor at night."


def test_the_exam_inside_a_row_and_a_row_inside_the_exam(clean, prompt, item):
    inside = prompt(f"Please help me with my homework, which says this: {EXAM} Use at most forty words for all of it.")
    part = prompt("how the old lighthouse of Alexandria guided ships into the harbor")
    other = prompt("Describe in detail how the old bridge of Mostar was built again after the war.")
    artifact = clean([inside, part, other], PROMPT, [item(EXAM, "fire")])
    assert texts(artifact) == [other["messages"][0]["content"]]
    assert artifact.manifest().counts["dropped:contaminated"] == 2
    hits = {hit["row_id"]: hit for hit in artifact.read_json("hits.json")}
    assert hits[inside["id"]]["of_item"] == 1 and hits[inside["id"]]["of_row"] < 1
    assert hits[part["id"]]["of_row"] == 1 and hits[part["id"]]["ngram"] in EXAM.lower()


def test_the_exam_in_a_later_turn_is_found(clean, dialogue):
    row = dialogue("Tell me something.", f"Here is a task for you. {EXAM}")
    with pytest.raises(EmptyDataset):
        clean([row], DIALOGUE, [exam_item(EXAM)])


def exam_item(text, key="a"):
    return make_row(ITEM, {"family": "open", "key": key, "half": "gate", "source": "t", "synthetic": False,
                           "messages": [{"role": "user", "content": text}]}, text)  # fmt: skip


def test_short_items_count_as_a_whole(clean, prompt):
    kept = prompt("Name the capital city of the country Peru in South America for me please.")
    hit = prompt("Quick one before lunch because I forgot: what is the capital of Peru? Thanks a lot.")
    artifact = clean([kept, hit], PROMPT, [exam_item("What is the capital of Peru?")])
    assert texts(artifact) == [kept["messages"][0]["content"]]


def test_template_wording_is_no_contamination_but_a_copy_is(clean, prompt):
    template = "Write about {}. Your whole answer must be in lower case letters, with no capital letter anywhere."
    items = [exam_item(template.format(topic), topic) for topic in ("owls", "chess", "kites", "opera")]
    fresh, copied = prompt(template.format("rivers")), prompt(template.format("chess"))
    artifact = clean([fresh, copied], PROMPT, items)
    assert texts(artifact) == [fresh["messages"][0]["content"]]
    assert artifact.read_json("hits.json")[0]["item_id"] == items[1]["id"]


def test_nothing_left_names_counts_and_the_setting(clean, prompt):
    rows = [prompt(EXAM), prompt(EXAM + "!"), prompt("...")]
    with pytest.raises(EmptyDataset, match="no row is left of 3: 1 equal, 1 no_words, 1 contaminated") as caught:
        clean(rows, PROMPT, [exam_item(EXAM)])
    assert caught.value.remedy


def dropped_rows(artifact):
    return [*read_rows(open_parquet(artifact.read_bytes(FILE)), 1024)]


def test_what_is_dropped_is_kept_with_its_reason_and_what_it_repeats(clean, prompt):
    first = prompt("Tell me how a sewing machine makes a stitch in thick cloth and what can go wrong with it at home")
    near, equal = prompt(said(first) + " please"), prompt(said(first).upper())
    twice, hit = prompt(said(near) + "!"), prompt(EXAM + " Soon.")
    exam = exam_item(EXAM)
    artifact = clean([first, near, equal, twice, hit], PROMPT, [exam])
    entries = {row["row_id"]: (row["reason"], row["detail"].split(": ")) for row in dropped_rows(artifact)}
    assert entries.pop(hit["id"])[1][0] == exam["id"]
    assert entries == {
        near["id"]: ("near_duplicate", [first["id"]]),
        equal["id"]: ("equal", [first["id"]]),
        twice["id"]: ("equal", [first["id"]]),
    }
    assert dropped_rows(artifact)[0]["messages"] == near["messages"]
    assert artifact.manifest().metrics["diversity/families"] == 1


def said(row):
    return row["messages"][0]["content"]


def test_a_collapse_fails_with_counts_and_the_setting(clean, prompt):
    rows = [
        prompt(f"Tell me all that there is to know about the coast of Norway in winter{'!' * n}") for n in range(11)
    ]
    rows += [prompt(f"How long is the road from town {n} to town {n + 1}?") for n in range(9)]
    with pytest.raises(StageFailed, match="collapsed: 10 equal and 0 near-duplicates of 20 rows are 50%") as caught:
        clean(rows, PROMPT, max_duplicate_share=0.49)
    assert "max_duplicate_share" in caught.value.remedy and not isinstance(caught.value, EmptyDataset)
    assert clean(rows, PROMPT).manifest().counts == {"in": 20, "kept": 10, "dropped:equal": 10}
    assert clean(rows[:8] + rows[11:12], PROMPT).manifest().counts["dropped:equal"] == 7


def test_rows_of_several_inputs_and_many_batches_come_out_in_order(run_stage, put_rows, prompt, item, monkeypatch):
    monkeypatch.setattr(streams, "BATCH_ROWS", 7)
    rng, words = random.Random(0), [f"w{number}" for number in range(500)]
    asked = [" ".join(rng.sample(words, 20)) for _ in range(60)]
    rows = [prompt(text + mark) for mark in ("", "?", " more") for text in asked]
    given = tuple(put_rows(f"rows {start}", rows[start : start + 45], PROMPT) for start in range(0, 180, 45))
    config = DeduplicateConfig(shard_rows=16, max_duplicate_share=0.9)
    artifact = run_stage(deduplicate.run, config, rows=given, evaluation_set=put_rows("items", [item("x y z")], ITEM))
    assert texts(artifact) == asked and len(artifact.parts()) == 4
    assert artifact.manifest().counts == {"in": 180, "kept": 60, "dropped:equal": 60, "dropped:near_duplicate": 60}


def test_a_batch_of_long_rows_has_fewer_rows(put_rows, dialogue, monkeypatch):
    monkeypatch.setattr(streams, "BATCH_ROWS", 3)
    monkeypatch.setattr(streams, "BATCH_CHARACTERS", 100)
    lengths = [20, 20, 20, 20, 90, 400, 20, 60, 50, 11]
    rows = put_rows("rows", [dialogue("q" * (size - 10), f"answer {n:3}") for n, size in enumerate(lengths)], DIALOGUE)
    found = [[len(row["messages"][0]["content"]) + 10 for row in batch] for batch in streams.batches(rows)]
    assert found == [[20, 20, 20], [20, 90], [400], [20, 60, 50], [11]]


def test_rows_of_two_schemas_are_refused(run_stage, put_rows, prompt, dialogue, item):
    mixed = (put_rows("a", [prompt("Hello you")], PROMPT), put_rows("b", [dialogue("Hi", "Ho")], DIALOGUE))
    with pytest.raises(InputError, match="different schemas"):
        run_stage(deduplicate.run, DeduplicateConfig(), rows=mixed, evaluation_set=put_rows("i", [item("x")], ITEM))


def test_words_are_the_same_by_the_fast_way_and_by_the_slow_one():
    rng = random.Random(0)
    texts = ["".join(chr(rng.randrange(128)) for _ in range(30)) for _ in range(500)]
    assert all([*words_of(text), "é"] == words_of(text + " é") for text in texts)
    assert sum(not OPERATOR.search(text) for text in texts) > 50


def test_words_are_normalised():
    assert words_of("Ｈello, WORLD-wide 3+4") == ["hello", "world", "-", "wide", "3", "+", "4"]
