"""The generator in place follows from the records: promotions add to the line, rollbacks take away."""

from pathlib import Path

import pytest

from flows.succession import line_of_generators, take_back
from infra.artifacts import Artifact
from infra.errors import RatchetError, StoreError
from infra.records import IterationRecord, Records, RollbackRecord, VerdictRecord
from infra.storage import Storage


class Lineage:
    """Records written as the wheel writes them, with models that are a digit."""

    def __init__(self, folder: Path) -> None:
        self.store = Storage.open(folder)
        self.records = Records(self.store, "wheel", "line")

    def model(self, digit: int) -> Artifact:
        return Artifact(stage="sft", kind="checkpoint", fingerprint=f"{digit:032x}", store=self.store.uri)

    def turn(self, number: int, generator: int, candidate: int, verdict: str) -> None:
        self.pin(number, generator)
        self.judge(number, generator, candidate, verdict)

    def pin(self, number: int, generator: int) -> None:
        record = IterationRecord(
            number=number, lineage="line", plan_digest="d", generator=self.model(generator), base=self.model(99)
        )
        self.records.put("iteration", number, record)

    def judge(self, number: int, generator: int, candidate: int, verdict: str) -> None:
        after = candidate if verdict == "promote" else generator
        values = {"candidate": candidate, "generator": generator, "next_generator": after}
        models = {name: self.model(digit) for name, digit in values.items()}
        self.records.put("verdict", number, VerdictRecord(number=number, verdict=verdict, **models))  # type: ignore[arg-type]

    def line(self, through: int | None = None) -> list[int]:
        return [int(item.fingerprint, 16) for item in line_of_generators(self.records, through)]


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    return Lineage(tmp_path / "store")


def test_before_the_first_iteration_there_is_no_line(lineage: Lineage) -> None:
    assert lineage.line() == []
    with pytest.raises(RatchetError, match="no previous generator: nothing"):
        take_back(lineage.records, "")


def test_only_promotions_move_it(lineage: Lineage) -> None:
    lineage.turn(1, 0, 1, "promote")
    lineage.turn(2, 1, 2, "keep")
    lineage.turn(3, 1, 3, "insufficient")
    lineage.turn(4, 1, 4, "promote")
    assert lineage.line() == [0, 1, 4]
    assert [lineage.line(number)[-1] for number in (1, 2, 3, 4)] == [1, 1, 1, 4]


def test_several_rollbacks_go_back_step_by_step(lineage: Lineage) -> None:
    lineage.turn(1, 0, 1, "promote")
    lineage.turn(2, 1, 2, "promote")
    first, second = take_back(lineage.records, "worse in chat"), take_back(lineage.records, "")
    assert (first.sequence, first.after, first.reason) == (1, 2, "worse in chat")
    assert (first.source, first.target) == (lineage.model(2), lineage.model(1))
    assert (second.sequence, second.source, second.target) == (2, lineage.model(1), lineage.model(0))
    assert lineage.line() == [0]
    assert lineage.line(1) == [0, 1], "the first iteration's outcome is not rewritten"
    with pytest.raises(RatchetError, match=r"no previous generator: .*0000 is the lineage's first"):
        take_back(lineage.records, "")
    assert len(lineage.records.all("rollback")) == 2


def test_the_next_iteration_goes_on_from_the_older_one(lineage: Lineage) -> None:
    lineage.turn(1, 0, 1, "promote")
    lineage.turn(2, 1, 2, "promote")
    take_back(lineage.records, "")
    lineage.turn(3, 1, 3, "promote")
    assert lineage.line() == [0, 1, 3]
    assert lineage.line(2) == [0, 1]
    take_back(lineage.records, "")
    assert lineage.line() == [0, 1]


def test_a_rollback_during_an_iteration_outlives_its_verdict(lineage: Lineage) -> None:
    lineage.turn(1, 0, 1, "promote")
    lineage.pin(2, 1)
    take_back(lineage.records, "while iteration 2 runs")
    lineage.judge(2, 1, 2, "keep")
    assert lineage.line() == [0]


def test_a_rollback_of_something_else_is_a_contradiction(lineage: Lineage) -> None:
    lineage.turn(1, 0, 1, "promote")
    wrong = {"sequence": 1, "after": 1, "from": lineage.model(7), "to": lineage.model(0)}
    lineage.records.put("rollback", 1, RollbackRecord.model_validate(wrong))
    with pytest.raises(StoreError, match="rollback 1 goes from"):
        lineage.line()
