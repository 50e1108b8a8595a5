"""Counts and what was dropped, by shard, over a stage's restarts."""

from collections import Counter
from pathlib import Path

import pytest

from infra.artifacts import Artifact
from infra.output import Output
from infra.storage import Storage
from tasks import dropped
from tasks.dropped import dropped_row
from tasks.tallies import Tallies, told


def an_output(folder: Path) -> Output:
    store = Storage.open(folder / "store")
    artifact = Artifact(stage="made", kind="dataset", fingerprint="cd" * 16, store=store.uri)
    return Output(artifact, store, lambda event: None, folder)


def entry(text: str, reason: str = "odd"):
    return dropped_row(reason, text)


def texts(found: Tallies) -> list[str]:
    return [one["messages"][0]["content"] for one in found.dropped()]


def test_a_restart_goes_on_and_a_shard_made_again_counts_once(tmp_path: Path) -> None:
    first = Tallies(an_output(tmp_path))
    for shard in range(11):
        first.put(shard, {"in": 2, "kept": 1}, [entry(f"shard {shard}")])
    again = Tallies(an_output(tmp_path))
    again.put(10, {"in": 2, "kept": 2}, [entry("the last one, made again")])
    again.put(11, {"in": 1})
    assert again.total() == {"in": 23, "kept": 12}
    assert texts(Tallies(an_output(tmp_path))) == [*(f"shard {n}" for n in range(10)), "the last one, made again"]


def test_sums_below_zero_stay(tmp_path: Path) -> None:
    found = Tallies(an_output(tmp_path))
    found.put(0, {"in": 1, "reward": -3})
    found.put(1, {"in": 1, "reward": 1})
    assert found.total() == Counter({"in": 2, "reward": -2})


def test_of_each_reason_the_first_ones_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "MOST", 3)
    found = Tallies(an_output(tmp_path))
    found.put(0, {}, [entry("a"), entry("b")])
    found.put(1, {}, [entry("c"), entry("d"), entry("e", "rare")])
    found.put(2, {}, [entry("f")])
    found.put(1, {}, [entry("c"), entry("d"), entry("e", "rare")])
    assert texts(found) == ["a", "b", "c", "e"]


def test_the_largest_count_is_told_first() -> None:
    assert told({"b": 1, "a": 1, "c": 3}) == "c 3, a 1, b 1"
