"""Keywords: four origins, what counts as the same, what evaluation keeps for itself."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from infra.artifacts import Artifact
from infra.parquet import open_parquet, read_rows
from models.engine import Completion, Result
from tasks import keywords
from tasks.configs.prompts import KeywordsConfig
from tasks.generation import Ask
from tasks.keywords import in_turns, keyword_row, select
from tasks.picked_keywords import DATA, FIELDS, picked_keywords
from tasks.rows import TEXT, TOPIC, make_row

KNOWN = {"source": "keywords/picked", "synthetic": False, "generator": "", "licence": "Apache-2.0"}
QUIET: dict[str, Any] = {"topics": 0, "entities": 0}
"""Settings that ask the generator nothing."""


def rows_of(*keywords: tuple[str, str, str]) -> list[dict[str, Any]]:
    return [keyword_row(keyword, field, origin, KNOWN) for keyword, field, origin in keywords]  # type: ignore[arg-type]


@pytest.fixture
def subjects(give: Callable[..., Artifact]) -> Artifact:
    known = {"source": "topics/curated", "synthetic": False, "generator": "", "licence": "Apache-2.0"}
    rows = [
        make_row(TOPIC, {"topic": name, "macro_topic": "Life", **known}, name) for name in ("banks", "maps", "rain")
    ]
    return give("topics", lambda output: output.write_shard(0, rows, TOPIC))


@pytest.mark.parametrize("field", FIELDS)
def test_the_picked_lists_are_long_and_clean(field: Any) -> None:
    rows = picked_keywords(field)
    kept, counts, rejected = select(rows, {"python": 1000, "maths": 1000})
    assert (
        len(kept) >= 60 and len(kept) == len(rows) and rejected == [] and counts == {"in": len(rows), "kept": len(rows)}
    )


def test_the_entities_are_different_and_say_nothing_of_their_field() -> None:
    entities = DATA["entities"]
    assert len(entities) >= 150 and len({entity.casefold() for entity in entities}) == len(entities)


def test_origins_take_turns() -> None:
    rows = rows_of(
        ("a", "maths", "topics"), ("b", "maths", "topics"), ("c", "python", "mined"), ("d", "maths", "picked")
    )
    assert [row["keyword"] for row in in_turns(rows)] == ["a", "c", "d", "b"]


def test_select_counts_what_it_drops() -> None:
    rows = rows_of(
        ("fractions", "maths", "picked"), ("Fraction", "maths", "picked"), ("fractions", "python", "picked"),
        ("chess", "maths", "picked"), ("...", "maths", "picked"), ("a b c d e", "maths", "picked"),
        ("sets", "maths", "picked"), ("angles", "maths", "picked"),
    )  # fmt: skip
    kept, counts, rejected = select(rows, {"python": 5, "maths": 2})
    assert [(row["keyword"], row["field"]) for row in kept] == [
        ("fractions", "maths"), ("fractions", "python"), ("sets", "maths")
    ]  # fmt: skip
    assert counts == {
        "in": 8, "kept": 3, "dropped:duplicate": 1, "dropped:evaluation_topic": 1, "dropped:no_words": 1,
        "dropped:too_long": 1, "dropped:over_target": 1,
    }  # fmt: skip
    assert ("evaluation_topic", rows[3]["id"]) in [(entry["reason"], entry["row_id"]) for entry in rejected]


def test_settings_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match="leave no maths keyword"):
        KeywordsConfig(topics=0, entities=0, picked=False)


def test_without_questions_no_model_is_opened_and_given_files_are_mined(
    run_stage: Callable[..., Artifact], give: Callable[..., Artifact], subjects: Artifact
) -> None:
    known = {"source": "mine", "synthetic": False, "generator": "", "licence": "MIT"}
    texts = ["import csv\ncsv.reader(f)", "import csv\nprint('x'", "import csv, json\njson.loads(x)"]
    rows = [make_row(TEXT, {"text": text, **known}, text) for text in texts]
    files = give("python", lambda output: output.write_shard(0, rows, TEXT))
    config = KeywordsConfig(**QUIET, python_target=5, maths_target=3)
    made = run_stage(keywords.run, config, generator=subjects, topics=subjects, python_files=files)
    found = made.rows()
    assert Counter(row["field"] for row in found) == {"python": 5, "maths": 3}
    mined = [row for row in found if row["origin"] == "mined"]
    assert [(row["keyword"], row["parents"], row["licence"]) for row in mined] == [("csv", [rows[0]["id"]], "MIT")]
    assert made.manifest().counts["dropped:no_python"] == 1
    assert made.manifest().result["licences"] == ["Apache-2.0", "MIT"]
    own = run_stage(keywords.run, KeywordsConfig(**QUIET), generator=subjects, topics=subjects)
    assert {row["licence"] for row in own.rows()} == {"Apache-2.0"}
    origins = Counter(row["origin"] for row in own.rows() if row["field"] == "python")
    assert origins.total() == 30 and min(origins["mined"], origins["picked"]) >= 10


class Recorded:
    """Answers of a generator, round by round; remembers what it was asked."""

    def __init__(self, *rounds: Callable[[Ask], str]) -> None:
        self.rounds, self.asked = iter(rounds), []

    def write(self, asks: Sequence[Ask], share: tuple[float, float]) -> list[Result]:
        said = next(self.rounds)
        self.asked.append(asks)
        return [Result((Completion(said(ask), (), "stop"),), 0) for ask in asks]


def test_entities_are_what_the_generator_says_yes_to_and_maths_has_levels(subjects: Artifact) -> None:
    def verdict(ask: Ask) -> str:
        return "Yes" if "prime number" in ask.messages[-1]["content"] else "No"

    writer = Recorded(verdict, lambda ask: "middle school")
    config = KeywordsConfig(entities=1000)
    asker = keywords.Asker(config, writer, subjects, "0")  # type: ignore[arg-type]
    rows = asker.among_entities()
    assert [(row["keyword"], row["field"], row["source"]) for row in rows] == [
        ("prime number", "python", "keywords/entities"), ("prime number", "maths", "keywords/entities/middle school")
    ]  # fmt: skip
    assert len(writer.asked[0]) == 2 * len(DATA["entities"]) and len(writer.asked[1]) == 1
    assert Counter(entry["reason"] for entry in asker.rejected) == {"of_another_field": len(writer.asked[0]) - 2}
    choices = {ask.params.constraint.text for asks in writer.asked for ask in asks if ask.params.constraint}
    assert choices == {'["Yes", "No"]', json.dumps(DATA["maths"]["level"]["choices"])}
    assert all(ask.params.temperature == 0 for asks in writer.asked for ask in asks)


def test_what_only_names_the_topic_is_no_keyword(subjects: Artifact) -> None:
    writer = Recorded(
        lambda ask: " ratio\n2. bank maps and rain" if "mathematics" in ask.messages[-2]["content"] else ""
    )
    asker = keywords.Asker(KeywordsConfig(per_topic=2), writer, subjects, "0")  # type: ignore[arg-type]
    rows = asker.under_topics(subjects.rows())
    assert [(row["keyword"], row["field"], row["origin"]) for row in rows] == [("ratio", "maths", "topics")] * 3
    assert sorted(row["parents"][0] for row in rows) == sorted(row["id"] for row in subjects.rows())
    assert Counter(entry["reason"] for entry in asker.rejected) == {"names_the_topic": 3, "not_a_list": 3}


def test_smollm_names_and_classifies_keywords(
    smollm: Artifact, run_stage: Callable[..., Artifact], subjects: Artifact
) -> None:
    config = KeywordsConfig(topics=2, per_topic=3, entities=8, python_target=40, maths_target=40)
    made = run_stage(keywords.run, config, generator=smollm, topics=subjects)
    rows = made.rows()
    asked = [row for row in rows if row["origin"] == "topics"]
    assert asked and {row["field"] for row in asked} <= set(FIELDS)
    topic_ids = {row["id"] for row in subjects.rows()}
    assert all(row["synthetic"] and row["generator"] == smollm.fingerprint for row in asked)
    assert all(len(row["parents"]) == 1 and row["parents"][0] in topic_ids for row in asked)
    classified = [row for row in rows if row["origin"] == "entities"]
    levels = DATA["maths"]["level"]["choices"]
    assert all(row["keyword"] in DATA["entities"] and not row["synthetic"] for row in classified)
    sources = {row["source"] for row in classified if row["field"] == "maths"}
    assert sources <= {f"keywords/entities/{level}" for level in levels}
    dropped = [*read_rows(open_parquet(made.read_bytes("dropped.parquet")), 100)]
    refused = [entry for entry in dropped if entry["reason"] == "of_another_field"]
    assert len(refused) + len(classified) <= 16  # a name said Yes to may be there already
    assert len(refused) == made.manifest().counts["dropped:of_another_field"]
