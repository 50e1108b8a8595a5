"""Near-duplicates: what MinHash proposes and exact similarity confirms, against a comparison of every pair."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tasks import neighbours, similarity_index
from tasks.configs.mix import DeduplicateConfig, SimilarityConfig
from tasks.near_duplicates import NearDuplicates, near_duplicates, similar_groups
from tasks.shingles import grams_of, jaccard, read_batch, run_hash, runs, words_of
from tasks.similarity_index import SimilarityIndex, bands_for

WORDS = [f"word{number}" for number in range(3000)]
CONFIG = DeduplicateConfig()
Build = Callable[..., SimilarityIndex]


def row(text: str) -> dict[str, str]:
    return {"text": text}


def planted(families: int, seed: int = 0) -> Iterator[str]:
    """Texts of 2 to 60 words, each in several versions with words changed or left out."""
    rng = random.Random(seed)
    texts = []
    for _ in range(families):
        base = rng.sample(WORDS, rng.choice([2, 3, 5, 12, 60]))
        for changes in (0, 0, 1, 2, 4, 12):
            copy = list(base)
            for place in rng.sample(range(len(copy)), min(changes, len(copy))):
                copy[place] = rng.choice(WORDS)
            texts.append(" ".join(copy))
        texts.append(" ".join(base[: len(base) - len(base) // 9]))
    rng.shuffle(texts)
    yield from texts


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """An index of texts, added a few at a time."""

    def make(texts: Sequence[str], config: SimilarityConfig = CONFIG) -> SimilarityIndex:
        index = SimilarityIndex(config, Path(tmp_path))
        for start in range(0, len(texts), 97):
            index.add(read_batch([row(text) for text in texts[start : start + 97]]))
        return index

    return make


def by_full_comparison(texts: Sequence[str], config: SimilarityConfig) -> dict[int, int]:
    """Each text that is similar to an earlier one that stays, with the first such; equal ones left out before."""
    found: dict[int, int] = {}
    kept: list[tuple[int, set[tuple[str, ...]]]] = []
    for number, text in enumerate(texts):
        shingles = grams_of(words_of(text), config.shingle_words)
        if text in texts[:number]:
            continue
        match = next((other for other, those in kept if jaccard(shingles, those) >= config.similarity), None)
        if match is None:
            kept.append((number, shingles))
        else:
            found[number] = match
    return found


def test_near_duplicates_are_those_of_a_full_comparison(build: Build) -> None:
    texts = [*planted(400)]
    index = build(texts)
    firsts = index.first_equals()
    assert firsts.tolist() == [texts.index(text) for text in texts]
    found = near_duplicates(index, np.flatnonzero(firsts == np.arange(len(texts))))
    truth = by_full_comparison(texts, CONFIG)
    assert found == truth and len(truth) > 100


@pytest.mark.parametrize("similarity", [0.5, 0.8])
def test_rare_shingles_find_what_a_full_comparison_finds(
    build: Build, monkeypatch: pytest.MonkeyPatch, similarity: float
) -> None:
    """Every bucket counts as a crowd here."""
    monkeypatch.setattr(neighbours, "CROWD", 1)
    config, texts = DeduplicateConfig(similarity=similarity), list(dict.fromkeys(planted(300)))
    truth = by_full_comparison(texts, config)
    assert near_duplicates(build(texts, config), np.arange(len(texts))) == truth and len(truth) > 50


def test_texts_of_one_template_are_no_candidates_but_their_near_duplicates_are(build: Build) -> None:
    rng = random.Random(0)
    texts = [" ".join([*rng.sample(WORDS[100:], 3), *WORDS[:15]]) for _ in range(1000)]
    texts += [text.removesuffix("word14") + "changed" for text in texts[::10]]
    index = build(texts)
    assert near_duplicates(index, np.arange(len(texts))) == {1000 + place: 10 * place for place in range(100)}
    assert sum(map(len, looked_at(index))) < 5 * len(texts)


def looked_at(index: SimilarityIndex) -> Iterator[list[int]]:
    walk = neighbours.Neighbours(index, np.arange(len(index.bounds()) - 1))
    for row, looks, keeps in walk:
        yield walk.near(looks)
        walk.keep(row, keeps)
    walk.close()


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.95])
def test_bands_find_pairs_at_the_threshold_and_use_what_they_are_given(similarity: float) -> None:
    bands, hashes = bands_for(similarity, 128)
    assert bands * hashes <= 128 and 1 - (1 - similarity**hashes) ** bands >= 0.99
    assert 1 - (1 - similarity ** (hashes + 1)) ** (128 // (hashes + 1)) < 0.99


def test_a_growing_pool_finds_the_same(build: Build) -> None:
    texts = list(dict.fromkeys(planted(40)))
    pool, found = NearDuplicates(CONFIG), []
    for number, text in enumerate(texts):
        words = words_of(text)
        if pool.has_similar(words):
            found.append(number)
        else:
            pool.add(words)
    assert found == [*near_duplicates(build(texts), np.arange(len(texts)))] and found


def test_few_shingles_are_remembered_and_the_same_is_found(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text of 60 words takes more than 700 bytes, so that two are remembered at most, and of 100 shingles none."""
    monkeypatch.setattr(neighbours, "REMEMBERED_BYTES", 1000)
    texts = list(dict.fromkeys([*planted(40), *(" ".join(WORDS[start : start + 200]) for start in (0, 2, 300))]))
    index = build(texts)
    assert near_duplicates(index, np.arange(len(texts))) == by_full_comparison(texts, CONFIG)
    walk = neighbours.Neighbours(index, np.arange(len(texts)))
    for row in range(len(texts)):
        walk.shingles(row)
        assert walk.remembered_bytes == sum(256 + found.nbytes for found in walk.remembered.values()) <= 1000
    assert len(walk.shingles(len(texts) - 1)) == 198 and not walk.remembered
    walk.close()


def test_repeated_shingles_count_once(build: Build) -> None:
    texts = ["a b c a b c a b c", "c a b c", "x y", ""]
    walk = neighbours.Neighbours(build(texts), np.arange(4))
    for one, other in combinations(range(4), 2):
        exact = jaccard(*(grams_of(texts[row].split(), 3) for row in (one, other)))
        assert neighbours.jaccard(walk.shingles(one), walk.shingles(other)) == exact
    assert neighbours.jaccard(walk.shingles(0), walk.shingles(1)) == 2 / 3
    walk.close()


def test_shingles_are_read_some_at_a_time(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity_index, "READ_SHINGLES", 5)
    index = build(["a b c d e", "f", "", "g h i", "j k l m n o p q r s", "t u", ""])
    parts = [rows.tolist() for _, rows in index.shingles()]
    assert parts == [[0, 0, 0, 1, 3], [4] * 8, [5]]
    whole = np.fromfile(index.folder / similarity_index.SHINGLES, np.uint64)
    assert np.concatenate([found for found, _ in index.shingles()]).tolist() == whole.tolist()


def test_groups_follow_chains_and_take_equal_rows_along(build: Build) -> None:
    words = WORDS[:60]
    steps = [" ".join(WORDS[100 : 100 + changed] + words[changed:]) for changed in (0, 4, 8, 12)]
    shingles = [grams_of(step.split(), 3) for step in steps]
    assert jaccard(shingles[0], shingles[1]) >= 0.8 > jaccard(shingles[0], shingles[2])
    texts = [steps[0], "another text of its own", steps[2], steps[1].upper() + "!", steps[3], steps[1]]
    assert similar_groups(build(texts)).tolist() == [0, 1, 0, 0, 0, 0]


def test_groups_are_those_of_a_full_comparison(build: Build) -> None:
    """Many candidates here are not similar enough."""
    texts = [*planted(100)]
    shingles = [grams_of(words_of(text), 3) for text in texts]
    group = [*range(len(texts))]
    for one, other in combinations(range(len(texts)), 2):
        if group[one] != group[other] and jaccard(shingles[one], shingles[other]) >= CONFIG.similarity:
            old, new = sorted((group[one], group[other]), reverse=True)
            group = [new if found == old else found for found in group]
    assert similar_groups(build(texts)).tolist() == group


def test_similarity_one_knows_equal_rows_only(build: Build) -> None:
    texts = [" ".join(WORDS[:60]), " ".join(WORDS[1:60]), " ".join(WORDS[:60]) + "."]
    index = build(texts, DeduplicateConfig(similarity=1))
    assert near_duplicates(index, np.arange(3)) == {} and similar_groups(index).tolist() == [0, 1, 0]


def test_an_index_without_rows_has_no_groups(build: Build) -> None:
    assert len(similar_groups(build([]))) == 0


def test_shingles_are_the_hashes_of_the_runs_of_words() -> None:
    texts = ["one two three four", "", "alone", "two words", "a b c"]
    hashes, ends = read_batch([row(text) for text in texts]).shingles(3)
    assert np.diff(ends, prepend=0).tolist() == [2, 0, 1, 1, 1] and len(set(hashes.tolist())) == 5
    again, _ = read_batch([row("three two words"), row("alone")]).shingles(3)
    assert again[1] == hashes[2] and again[0] not in hashes


def test_runs_are_hashed_alike_one_by_one_and_all_at_once() -> None:
    batch = read_batch([row("the cat sat on the mat"), row("the dog")])
    (_, _, _), (length, hashes, inside) = runs(batch.words_W, batch.row_W, 2)
    assert length == 2 and inside.tolist() == [True] * 5 + [False, True]
    assert hashes[1] == run_hash(["cat", "sat"]) and hashes[6] == run_hash(["the", "dog"])
