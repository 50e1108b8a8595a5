"""Topics: what is curated, what counts as the same, what evaluation keeps for itself."""

from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from models.engine import Completion, Result
from tasks import topics
from tasks.configs.prompts import TopicsConfig
from tasks.evaluation_items import evaluation_topics
from tasks.generation import Ask
from tasks.topics import Named, curated_topics, select


def named(*texts: str) -> list[Named]:
    return [Named(text, "World", curated=False) for text in texts]


def test_the_curated_list_is_long_clean_and_apart_from_evaluation() -> None:
    kept, counts, rejected = select(curated_topics(0), 1000)
    assert len(kept) >= 300 and counts["in"] == counts["kept"] == len(kept) and rejected == []
    assert not {topic.topic.casefold() for topic in kept} & {topic.casefold() for topic in evaluation_topics()}


def test_the_seed_orders_the_curated_list() -> None:
    assert curated_topics(1) == curated_topics(1) != curated_topics(2)
    assert set(curated_topics(1)) == set(curated_topics(2))


def test_select_counts_what_it_drops() -> None:
    said = named(
        "music", "Music", "the musics", "World", "history of chess", "Coral Reef", "...", "a b c d e f", "art", "maps"
    )
    kept, counts, rejected = select(said, 2)
    assert [topic.topic for topic in kept] == ["music", "art"]
    assert counts == {
        "in": 10, "kept": 2, "dropped:duplicate": 3, "dropped:evaluation_topic": 2, "dropped:no_words": 1,
        "dropped:too_long": 1, "dropped:over_target": 1,
    }  # fmt: skip
    assert ("evaluation_topic", "Coral Reef", "World") in [(e["reason"], e["topic"], e["detail"]) for e in rejected]
    assert len(rejected) == 7


def test_settings_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match="n_macro=0 and curated=False"):
        TopicsConfig(n_macro=0, curated=False)


class Recorded:
    """Answers of a generator, round by round; remembers what it was asked."""

    def __init__(self, *rounds: list[str]) -> None:
        self.rounds, self.asked = iter(rounds), []

    def write(self, asks: Sequence[Ask], share: tuple[float, float]) -> list[Result]:
        self.asked.append(asks)
        return [Result((Completion(text, (), "stop"),), 0) for text in next(self.rounds)]


def test_a_long_list_takes_several_calls_that_are_told_what_there_is() -> None:
    writer = Recorded([" Art\n2. Sport", " Law\n2. Film"], [" Art\n2. Music", " Tax\n2. Ink"], ["", " Oil"])
    config = TopicsConfig(per_call=2)
    fields = [{"macro": "Culture"}, {"macro": "Things"}]
    found = topics.listed(config, writer, "sub", fields, 5, (0.2, 1.0))  # type: ignore[arg-type]
    assert found == [["Art", "Sport", "Music"], ["Law", "Film", "Tax", "Ink", "Oil"]]
    said = [asks[0].messages[-2]["content"] for asks in writer.asked]
    assert "others" not in said[0] and said[1].endswith("Name others than these: Art, Sport.")
    assert "list of 2 " in said[1] and "list of 2 " in said[2]
    assert "list of 1 " in writer.asked[2][1].messages[-2]["content"]
    assert len({ask.id for asks in writer.asked for ask in asks}) == 6


def test_a_curated_run_needs_no_model(run_stage, store) -> None:
    """With n_macro=0 the generator is not opened: any artifact will do."""
    from tasks import evaluation_set
    from tasks.configs.evaluation_set import EvaluationSetConfig

    anything = run_stage(evaluation_set.run, EvaluationSetConfig())
    made = run_stage(topics.run, TopicsConfig(n_macro=0, target=20), generator=anything)
    rows = made.rows()
    assert (
        len(rows) == 20
        and not any(row["synthetic"] for row in rows)
        and {row["source"] for row in rows} == {"topics/curated"}
    )
    assert made.manifest().counts["dropped:over_target"] == len(curated_topics(0)) - 20
