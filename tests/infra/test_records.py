"""Records are put once, say the same for ever, and move with their store."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Artifact
from infra.errors import InputError, StoreError
from infra.records import IterationRecord, PromotionRecord, Records, RollbackRecord, VerdictRecord, lineages
from infra.storage import Storage


@pytest.fixture
def records(store: Storage) -> Records:
    return Records(store, "my-project", "main")


@pytest.fixture
def model(store: Storage) -> Callable[[str], Artifact]:
    return lambda digit: Artifact(stage="sft", kind="checkpoint", fingerprint=digit * 32, store=store.uri)


@pytest.fixture
def iteration(model: Callable[[str], Artifact]) -> Callable[..., IterationRecord]:
    def make(number: int, **changes: Any) -> IterationRecord:
        values = {"lineage": "main", "plan_digest": "abc", "generator": model("1"), "base": model("2"), "salt": ""}
        return IterationRecord(number=number, **(values | changes))

    return make


def test_every_kind_comes_back(records: Records, iteration: Callable, model: Callable) -> None:
    one, two = model("1"), model("2")
    verdict = VerdictRecord(
        number=1, verdict="promote", candidate=two, generator=one, next_generator=two, summary={"gain": 0.1, "n": 640}
    )
    promotion = PromotionRecord(number=1, source=None, target=two, reason="gain")
    rollback = RollbackRecord.model_validate(
        {"sequence": 1, "after": 1, "from": two, "to": one, "reason": "a person said so"}
    )
    records.put("iteration", 1, iteration(1))
    records.put("verdict", 1, verdict)
    records.put("promotion", 1, promotion)
    records.put("rollback", 1, rollback)
    assert records.all("iteration") == [records.get("iteration", 1)]
    assert records.get("verdict", 1) == verdict
    assert records.all("promotion") == [promotion]
    assert records.get("rollback", 1) == rollback and rollback.source == two


def test_in_order_of_number(records: Records, iteration: Callable) -> None:
    for number in (2, 10, 1):
        records.put("iteration", number, iteration(number))
    assert [record.number for record in records.all("iteration")] == [1, 2, 10]
    assert records.all("verdict") == []
    assert records.get("iteration", 3) is None


def test_the_same_again_returns_the_first(records: Records, iteration: Callable) -> None:
    first = records.put("iteration", 1, iteration(1, created="2020-01-01T00:00:00+00:00"))
    again = records.put("iteration", 1, iteration(1, created="2030-01-01T00:00:00+00:00"))
    assert again == first


def test_other_content_is_refused_with_both_values(records: Records, iteration: Callable) -> None:
    records.put("iteration", 1, iteration(1))
    with pytest.raises(
        StoreError, match=r'iteration-000001.json tells .*: plan_digest "abc", not "o.*--fresh'
    ) as raised:
        records.put("iteration", 1, iteration(1, plan_digest="other " * 1000))
    assert "number" not in str(raised.value) and len(str(raised.value)) < 1000
    assert records.get("iteration", 1).plan_digest == "abc"


def test_wrong_payloads(records: Records, iteration: Callable, tmp_path: Path) -> None:
    foreign = Artifact(stage="sft", kind="checkpoint", fingerprint="3" * 32, store=str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match=r"base lies in .*elsewhere"):
        records.put("iteration", 1, iteration(1, base=foreign))
    with pytest.raises(InputError, match="IterationRecord number 1 as iteration 2"):
        records.put("iteration", 2, iteration(1))
    with pytest.raises(InputError, match="IterationRecord number 1 as verdict 1"):
        records.put("verdict", 1, iteration(1))
    with pytest.raises(InputError, match="count from 1"):
        records.get("iteration", 0)
    with pytest.raises(InputError, match="no record of kind 'other'"):
        records.all("other")  # type: ignore[call-overload]


def test_damaged_record_is_named(records: Records, iteration: Callable, store: Storage) -> None:
    records.put("iteration", 1, iteration(1))
    key = "records/my-project/main/iteration-000001.json"
    for damage in (b"", b"[]", b'{"schema_version": 1, "kind": "iteration"}', b'{"schema_version": 2}'):
        store.put(key, damage)
        with pytest.raises(StoreError, match=rf"record .*{key} cannot be read"):
            records.get("iteration", 1)


def test_lineages(store: Storage, iteration: Callable) -> None:
    assert lineages(store, "my-project") == []
    for lineage in ("main", "fresh-2"):
        Records(store, "my-project", lineage).put("iteration", 1, iteration(1, lineage=lineage))
    Records(store, "other", "x").put("iteration", 1, iteration(1))
    assert lineages(store, "my-project") == ["fresh-2", "main"]


def test_names(store: Storage) -> None:
    for project, lineage in (("a/b", "main"), ("", "main"), ("p", ".."), ("p", "x" * 65)):
        with pytest.raises(InputError, match="use 1–64 letters"):
            Records(store, project, lineage)


def test_records_move_with_their_store(tmp_path: Path, iteration: Callable) -> None:
    old = Storage.open(tmp_path / "old")
    here = Artifact(stage="sft", kind="checkpoint", fingerprint="1" * 32, store=old.uri)
    Records(old, "p", "main").put("iteration", 1, iteration(1, generator=here, base=here))
    shutil.move(tmp_path / "old", tmp_path / "new")
    new = Storage.open(tmp_path / "new")
    found = Records(new, "p", "main").get("iteration", 1)
    assert found and found.generator.store == str(tmp_path / "new")
