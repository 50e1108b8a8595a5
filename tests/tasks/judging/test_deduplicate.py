"""Clean-up: what is a duplicate, what overlaps with the examination, and what must stay."""

import random

import pytest

from infra.errors import EmptyDataset, InputError
from tasks import deduplicate
from tasks.configs.mix import DeduplicateConfig
from tasks.deduplicate import NearDuplicates, bands_for, grams_of, jaccard, words_of
from tasks.rows import DIALOGUE, ITEM, PROMPT, RESPONSE, make_row

WORDS = [f"word{number}" for number in range(400)]


@pytest.fixture
def prompt():
    def make(text):
        messages = [{"role": "user", "content": text}]
        values = {"family": "open", "messages": messages, "source": "test", "synthetic": True, "licence": "CC0-1.0"}
        return make_row(PROMPT, values, messages)

    return make


@pytest.fixture
def clean(run_stage, put_rows, item):
    def make(rows, schema, items=(), **settings):
        asked = list(items) or [item("What is the tallest mountain of the continent called Africa?", "kilimanjaro")]
        inputs = {"rows": put_rows("rows", rows, schema), "evaluation_set": put_rows("items", asked, ITEM)}
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


def test_near_duplicates_are_those_of_a_full_comparison():
    """MinHash only proposes; on 150 texts of every similarity it misses next to nothing."""
    rng, config = random.Random(0), DeduplicateConfig()
    texts = []
    for _ in range(30):
        base = rng.sample(WORDS, 60)
        for changes in (0, 1, 2, 4, 12):
            copy = list(base)
            for place in rng.sample(range(60), changes):
                copy[place] = rng.choice(WORDS)
            texts.append(copy)
    index, kept, found, missed = NearDuplicates(config), [], 0, 0
    for words in texts:
        shingles = grams_of(words, config.shingle_words)
        truth = any(jaccard(shingles, other) >= config.similarity for other in kept)
        claim = index.has_similar(words)
        assert not claim or truth
        found, missed = found + claim, missed + (truth and not claim)
        if not claim:
            index.add(words)
            kept.append(shingles)
    assert found >= 40 and missed <= 1


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.95])
def test_bands_find_pairs_at_the_threshold(similarity):
    bands = bands_for(similarity, 128)
    assert 128 % bands == 0 and 1 - (1 - similarity ** (128 // bands)) ** bands >= 0.99


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


def test_rows_of_two_schemas_are_refused(run_stage, put_rows, prompt, dialogue, item):
    mixed = (put_rows("a", [prompt("Hello you")], PROMPT), put_rows("b", [dialogue("Hi", "Ho")], DIALOGUE))
    with pytest.raises(InputError, match="different schemas"):
        run_stage(deduplicate.run, DeduplicateConfig(), rows=mixed, evaluation_set=put_rows("i", [item("x")], ITEM))


def test_words_are_normalised():
    assert words_of("Ｈello, WORLD-wide 3+4") == ["hello", "world", "-", "wide", "3", "+", "4"]
