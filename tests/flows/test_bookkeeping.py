"""What the wheel writes down of an iteration: its generator pinned, the registry in line, the verdict told."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from deployments.plans import load_plan
from flows.bookkeeping import BOOK, Book, lineage_of, step_metrics, verdict_markdown, verdict_metrics
from flows.flywheel import flywheel
from flows.model_card import ancestors, licences, model_card
from flows.products import Examined, Foundations, Given, Trained, Turn
from flows.runner import Site
from infra.artifacts import Artifact, fingerprint_of
from infra.errors import InputError, StoreError
from infra.output import Outcome, Output
from infra.records import VerdictRecord
from infra.storage import Storage
from infra.tracking import Tracker
from tasks.configs.training import SFTConfig

Put = Callable[..., Artifact]
Values = dict[str, Any]
PLAN = load_plan("tiny", None, ())
RESULT = {"verdict": "promote", "reasons": ["better by 5 points"], "n": 300, "gain": 0.0512, "items": {"a": 1}}


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path / "store")


@pytest.fixture
def put(store: Storage, tmp_path: Path) -> Put:
    """`put(name, kind, inputs, metrics, rows, **result)`: an artifact with a real manifest."""

    def make(
        name: str, kind: str = "checkpoint", inputs: Values | None = None, metrics: Values | None = None,
        rows: int | None = None, recipe: Values | None = None, **result: Any,
    ) -> Artifact:  # fmt: skip
        fingerprint = fingerprint_of("given", 1, {"name": name}, {})
        address = Artifact(stage=name.replace(" ", "-"), kind=kind, fingerprint=fingerprint, store=store.uri)
        output = Output(address, store, lambda event: None, tmp_path)
        output.write_text("data.txt", name)
        return output.commit(
            Outcome(rows=rows, metrics=metrics or {}, result=result), recipe=recipe or {}, inputs=inputs or {},
            version=1, label=name, device="", wall_s=0.0, code_version="1.2.3",
        )  # fmt: skip

    return make


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    before = mlflow.get_tracking_uri()
    yield f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    mlflow.set_tracking_uri(before)


@pytest.fixture
def given(put: Put) -> Foundations:
    base = put("base", licences=["Apache-2.0"])
    return Foundations(generator=put("weak", licences=["MIT"]), base=base, reward_model=put("reward model"),
                       items=put("items", "dataset"), human=None, sources=Given())  # fmt: skip


@pytest.fixture
def book(
    tracking_uri: str, store: Storage, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Book:
    monkeypatch.chdir(tmp_path)  # where MLflow without a server puts its artifacts
    project = request.node.name.replace("_", "-")[:60]
    site = Site(store=store.uri, workspace=tmp_path, cores=1, cluster=lambda: "")
    return Book(PLAN, project, "line", site, Tracker(tracking_uri, project), "ratchet run")


def a_turn(put: Put, given: Foundations, number: int, generator: Artifact, verdict: str) -> Turn:
    mix = put(f"mix {number}", "dataset", rows=40, metrics={"synthetic_share": 0.975})
    sft = put(f"sft {number}", inputs={"base": given.base, "dialogues": mix}, licences=["Apache-2.0", "CC0-1.0"])
    rpo = put(f"rpo {number}", inputs={"policy": sft}, metrics={"loss": 0.25})
    exams = {name: put(f"exam {name} {number}", "evaluation", metrics={"dev": score})
             for name, score in (("generator", 0.25), ("sft", 0.5), ("rpo", 0.75))}  # fmt: skip
    gate = put(f"gate {number}", "verdict", **RESULT | {"verdict": verdict})
    return Turn(
        generator=generator, base=given.base, data={"general mix": mix}, baseline=exams["generator"],
        steps={"general sft": Trained(sft, exams["sft"]), "rpo 1": Trained(rpo, exams["rpo"])},
        examined=Examined(gate, exams["rpo"], exams["generator"]), controls={},
    )  # fmt: skip


def judge(book: Book, number: int, turn: Turn, verdict: Any, versions: dict[str, int] | None = None) -> None:
    following = turn.candidate if verdict == "promote" else turn.generator
    record = VerdictRecord(number=number, verdict=verdict, candidate=turn.candidate, generator=turn.generator,
                           next_generator=following, versions=versions or {})  # fmt: skip
    book.records.put("verdict", number, record)


def test_each_iteration_starts_from_what_the_last_left(book: Book, put: Put, given: Foundations) -> None:
    first = book.pin(1, given)
    assert first == given.generator == book.pin(1, given), "pinning again changes nothing"
    with pytest.raises(ValueError, match="iteration 1 of lineage line has no verdict yet"):
        book.pin(2, given)
    turn = a_turn(put, given, 1, first, "promote")
    judge(book, 1, turn, "promote")
    assert book.pin(2, given) == turn.candidate
    second = a_turn(put, given, 2, turn.candidate, "keep")
    judge(book, 2, second, "keep")
    assert book.pin(3, given) == turn.candidate
    record = book.records.get("iteration", 2)
    assert record is not None and record.base == given.base and record.plan_digest == book.plan.digest()


def test_an_iteration_judged_with_other_code_is_refused_before_any_work(
    book: Book, put: Put, given: Foundations, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(book, 1, a_turn(put, given, 1, book.pin(1, given), "keep"), "keep", PLAN.versions())
    book.check_code()
    monkeypatch.setattr(SFTConfig, "version", SFTConfig.version + 1)
    token = BOOK.set(book)
    with pytest.raises(
        InputError, match=rf"iteration 1 .*sft \({SFTConfig.version - 1} then, {SFTConfig.version} now\)"
    ):
        flywheel.fn(PLAN, None, None, 2)
    BOOK.reset(token)


def test_a_record_from_before_versions_were_kept_is_believed(book: Book, put: Put, given: Foundations) -> None:
    judge(book, 1, a_turn(put, given, 1, book.pin(1, given), "keep"), "keep")
    book.check_code()


def test_a_pinned_iteration_refuses_another_base(book: Book, put: Put, given: Foundations) -> None:
    book.pin(1, given)
    with pytest.raises(StoreError, match="records never change"):
        book.pin(1, given._replace(base=put("another base")))


def test_every_checkpoint_is_registered_and_aliases_follow_the_records(
    book: Book, put: Put, given: Foundations
) -> None:
    generator = book.pin(1, given)
    turn = a_turn(put, given, 1, generator, "promote")
    judge(book, 1, turn, "promote")
    version = book._reconcile(1, turn, given, "promote")
    assert version == book._reconcile(1, turn, given, "promote"), "saying it again adds nothing"
    rows = {row["uri"]: row for row in book.registry.versions()}
    models = (given.base, given.generator, given.reward_model, *(step.model for step in turn.steps.values()))
    assert set(rows) == {model.uri for model in models}
    candidate = rows[turn.candidate.uri]
    assert candidate["version"] == version and candidate["aliases"] == ["candidate", "generator"]
    assert rows[given.generator.uri]["aliases"] == ["previous"]
    assert rows[given.reward_model.uri]["aliases"] == ["reward"]
    tags = candidate["tags"]
    assert {tags["iteration"], tags["gate_verdict"], tags["step"], tags["synthetic_share"]} == {
        "1", "promote", "rpo 1", "0.975"
    }  # fmt: skip
    assert tags["licence"] == "Apache-2.0, CC0-1.0" and tags["base"] == given.base.fingerprint
    assert "gate_verdict" not in rows[turn.steps["general sft"].model.uri]["tags"]


def test_a_kept_generator_stays_where_it_is(book: Book, put: Put, given: Foundations) -> None:
    turn = a_turn(put, given, 1, book.pin(1, given), "keep")
    judge(book, 1, turn, "keep")
    version = book._reconcile(1, turn, given, "keep")
    assert book.registry.aliases() == {
        "candidate": version, "generator": book.registry.version_of(given.generator),
        "reward": book.registry.version_of(given.reward_model),
    }  # fmt: skip


def test_a_lineage_that_keeps_its_generator_takes_no_alias_from_one_that_promoted(
    book: Book, put: Put, given: Foundations
) -> None:
    better = a_turn(put, given, 1, book.pin(1, given), "promote")
    judge(book, 1, better, "promote")
    version = book._reconcile(1, better, given, "promote")
    other = Book(book.plan, book.project, "another", book.site, book.tracker, "ratchet run")
    turn = a_turn(put, given, 2, other.pin(1, given), "keep")
    judge(other, 1, turn, "keep")
    candidate = other._reconcile(1, turn, given, "keep")
    assert (book.registry.aliases()["generator"], book.registry.aliases()["candidate"]) == (version, candidate)


def test_a_lineage_is_the_plans_recipe_with_its_sources() -> None:
    other = PLAN.model_copy(update={"salt": "x"})
    names = {lineage_of(PLAN, ("a", "b")), lineage_of(PLAN, ("b", "a")), lineage_of(other, ("a", "b"))}
    assert len(names) == 3 and lineage_of(PLAN, ("a", "b")) == lineage_of(load_plan("tiny", None, ()), ("a", "b"))


def test_the_stage_table_starts_with_the_generator(put: Put, given: Foundations) -> None:
    metrics = step_metrics(a_turn(put, given, 1, given.generator, "keep"))
    assert metrics == {"generator": {"dev": 0.25}, "general sft": {"dev": 0.5}, "rpo 1": {"dev": 0.75}}
    assert list(metrics) == ["generator", "general sft", "rpo 1"]


def test_the_verdicts_numbers_and_reasons_are_shown() -> None:
    assert verdict_metrics(RESULT) == {"gate/n": 300.0, "gate/gain": 0.0512}
    text = verdict_markdown(2, RESULT, "/store/report")
    assert text.startswith("# Iteration 2: promote\n\n- better by 5 points\n")
    assert "| gain | 0.0512 |" in text and "| n | 300 |" in text and "`/store/report/report.html`" in text


def test_ancestors_are_found_once_nearest_first_and_gaps_are_passed_over(put: Put, store: Storage) -> None:
    root = put("root", recipe={"licence": "CC-BY-4.0"})
    rows = [put(f"rows {n}", "dataset", {"generator": root}, licences=[f"L{n}"]) for n in range(2)]
    model = put("model", inputs={"base": root, "rows": tuple(rows)}, licences=["MIT", ""])
    assert [found.stage for found, _ in ancestors(model)] == ["model", "root", "rows-0", "rows-1"]
    assert licences(model) == ["CC-BY-4.0", "L0", "L1", "MIT"]
    for key in store.list(rows[0].key):
        store.delete(key)
    assert licences(model) == ["CC-BY-4.0", "L1", "MIT"]


def test_a_card_says_what_a_model_is_made_of(put: Put) -> None:
    base, rows = put("base", licences=["Apache-2.0"]), put("rows", "dataset", rows=12, licences=["CC0-1.0"])
    model = put("model", inputs={"base": base, "dialogues": rows}, metrics={"loss": 0.123456, "accuracy": 0.5})
    card = model_card(model, {"name": "wheel: rpo 1", "iteration": 2, "gate_verdict": "keep", "base": ""})
    for line in ("# wheel: rpo 1", "- **iteration**: 2", "- **gate verdict**: keep", "- accuracy: 0.5",
                 "- loss: 0.1235", f"- **fingerprint**: `{model.fingerprint}`", "- **code version**: 1.2.3",
                 f"- dialogues: `rows/{rows.fingerprint[:12]}`, 12 rows", f"- base: `base/{base.fingerprint[:12]}`",
                 "- **licence** (derived from the base and all training rows): Apache-2.0, CC0-1.0"):  # fmt: skip
        assert line in card.splitlines()
    assert "**base**" not in card, "facts without a value are left out"
    assert "unknown" in model_card(put("alone"), {})
