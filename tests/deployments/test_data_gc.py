"""`ratchet data gc`: what may go and what must stay, on real stores; nothing that a record needs is ever listed."""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.garbage import Limits, closure, remove, unneeded_artifacts
from deployments.lineage import read_manifests
from deployments.modified import modified
from infra.artifacts import Artifact
from infra.lock import workspace_lock
from infra.output import Output
from infra.records import IterationRecord, PromotionRecord, Records, VerdictRecord
from infra.storage import Storage
from tasks.rows import TEXT, make_row
from tests.s3_server import BUCKET

NOW = ("--older-than", "0")
PROJECT, LINEAGE = "demo", "0123456789abcdef"
DAY = timedelta(days=1)


def weights(output: Output) -> None:
    output.write_text("model.safetensors", "weights")


def text(number: int) -> dict[str, Any]:
    values = {"text": f"text {number}", "source": "test", "synthetic": False, "generator": "", "licence": "MIT"}
    return make_row(TEXT, values, number)


@pytest.fixture
def turn(put, put_rows, store) -> Callable[..., dict[str, Artifact]]:
    """`turn(1, "keep")` makes an iteration's artifacts and its records, as the wheel does."""
    records = Records(store, PROJECT, LINEAGE)
    base = put("import_model", "base", weights, kind="checkpoint")

    def make(number: int, verdict: str | None, generator: Artifact = base) -> dict[str, Artifact]:
        begun = IterationRecord(number=number, lineage=LINEAGE, plan_digest="d", generator=generator, base=base)
        records.put("iteration", number, begun)
        data = put_rows("mix", f"mix {number}", [text(number)], TEXT, inputs={"generator": generator})
        step = put("sft", f"sft {number}", weights, kind="checkpoint", inputs={"base": base, "dialogues": data})
        candidate = put("preference-tuning", f"dpo {number}", weights, kind="checkpoint", inputs={"policy": step})
        exam = put("evaluate", f"exam {number}", weights, kind="evaluation", inputs={"model": candidate})
        made = {"base": base, "data": data, "step": step, "candidate": candidate, "exam": exam}
        if verdict is None:
            return made
        gate = put("gate", f"gate {number}", weights, kind="verdict", inputs={"candidate": exam})
        following = candidate if verdict == "promote" else generator
        ended = VerdictRecord(number=number, verdict=verdict, candidate=candidate, generator=generator,
                              next_generator=following)  # fmt: skip
        records.put("verdict", number, ended)
        if verdict == "promote":
            moved = {"number": number, "from": generator, "to": candidate}
            records.put("promotion", number, PromotionRecord.model_validate(moved))
        recipe = {"project": PROJECT, "lineage": LINEAGE, "number": number}
        inputs = {"verdict": gate, "models": (step, candidate), "data": (data,)}
        report = put("report", f"report {number}", weights, kind="report", recipe=recipe, inputs=inputs)
        return {**made, "gate": gate, "report": report}

    return make


def uris(ended: Any) -> set[str]:
    assert ended.code == 0, ended.err
    return {item["uri"] for item in ended.document["items"]}


def there(*artifacts: Artifact) -> list[bool]:
    return [artifact.exists() for artifact in artifacts]


def test_what_a_record_needs_is_never_listed(ratchet, turn):
    first = turn(1, "keep")
    turn(2, "promote")
    ended = ratchet("data", "gc", *NOW, "--json")
    assert uris(ended) == set() and ended.document == {"deleted": False, "items": [], "bytes": 0}
    assert ratchet("data", "gc", *NOW, "--yes", "--json").document["items"] == []
    assert all(there(*first.values()))


def test_an_abandoned_run_goes_children_first(ratchet, turn, put, store):
    kept = turn(1, "promote")
    lost = turn(2, None, generator=kept["candidate"])
    inside = {lost[name].uri for name in ("data", "step", "candidate", "exam")}
    dry = ratchet("data", "gc", *NOW, "--json")
    assert uris(dry) == inside and not dry.document["deleted"] and all(there(*lost.values()))
    order = [item["uri"] for item in dry.document["items"]]
    assert order.index(lost["exam"].uri) < order.index(lost["candidate"].uri) < order.index(lost["step"].uri)
    assert dry.document["bytes"] == sum(
        file.stat().st_size for name in ("data", "step", "candidate", "exam") for file in Path(lost[name].uri).iterdir()
    )
    done = ratchet("data", "gc", *NOW, "--yes", "--json")
    assert uris(done) == inside and done.document["deleted"]
    assert there(*(lost[name] for name in ("data", "step", "candidate", "exam"))) == [False] * 4
    assert not Path(lost["step"].uri).exists() and all(there(*kept.values()))
    assert ratchet("data", "verify", "--json").document == {"checked": 7, "bad": []}
    assert uris(ratchet("data", "gc", *NOW, "--json")) == set()


def test_what_is_young_stays_and_holds_what_it_was_made_from(ratchet, put, put_rows):
    old = put_rows("documents", "old", [text(1)], TEXT)
    young = put_rows("mix", "young", [text(2)], TEXT, inputs={"documents": old})
    alone = put_rows("documents", "alone", [text(3)], TEXT)
    for artifact in (old, alone):
        age(artifact, 2 * DAY)
    assert uris(ratchet("data", "gc", "--json")) == {alone.uri}
    assert uris(ratchet("data", "gc", "--older-than", "3", "--json")) == set()
    age(young, 2 * DAY)
    assert uris(ratchet("data", "gc", "--json")) == {alone.uri, old.uri, young.uri}


def age(artifact: Artifact, by: timedelta) -> None:
    manifest = Path(artifact.uri, "manifest.json")
    values = json.loads(manifest.read_text())
    values["created"] = (datetime.now(UTC) - by).isoformat(timespec="seconds")
    manifest.chmod(0o644)
    manifest.write_text(json.dumps(values))


def test_a_job_of_today_holds_its_inputs(ratchet, put_rows, store):
    waiting = put_rows("documents", "waiting", [text(1)], TEXT)
    age(waiting, 2 * DAY)
    spec = {"steps": [{"label": "sft", "inputs": {"dialogues": [waiting.model_dump()]}}]}
    store.put("jobs/ratchet-1/spec.json", json.dumps(spec).encode())
    assert uris(ratchet("data", "gc", "--json")) == set()
    os.utime(store.location("jobs/ratchet-1/spec.json"), (time.time() - 2 * 86400,) * 2)
    ended = ratchet("data", "gc", "--json")
    assert uris(ended) == {waiting.uri, store.location("jobs/ratchet-1")}
    assert "sft" in next(item["reason"] for item in ended.document["items"] if item["kind"] == "job")


def test_keep_iterations_takes_only_old_unpromoted_checkpoints(ratchet, turn):
    first, second, third = turn(1, "keep"), turn(2, "promote"), turn(3, "insufficient")
    fourth = turn(4, "keep")
    assert uris(ratchet("data", "gc", *NOW, "--json")) == set()
    assert uris(ratchet("data", "gc", *NOW, "--keep-iterations", "4", "--json")) == set()
    ended = ratchet("data", "gc", *NOW, "--keep-iterations", "1", "--yes", "--json")
    gone = [turn[name] for turn in (first, third) for name in ("step", "candidate")]
    assert uris(ended) == {artifact.uri for artifact in gone}
    assert all("would train it again" in item["reason"] for item in ended.document["items"])
    assert there(*gone) == [False] * 4 and all(there(*second.values(), *fourth.values()))
    assert all(there(*(first[name] for name in ("base", "data", "exam", "gate", "report"))))


def test_models_from_outside_stay_where_no_registry_can_say(ratchet, put, store):
    known = put("import_model", "known", weights, kind="checkpoint")
    tried = put("import_model", "tried", weights, kind="checkpoint")
    other = put("sft", "other", weights, kind="checkpoint", inputs={"base": tried})
    ended = ratchet("data", "gc", *NOW, "--json")
    assert uris(ended) == {other.uri} and "brought in from outside is kept" in ended.err
    row = {"name": "guest", "version": 1, "aliases": [], "uri": known.uri, "tags": {"fingerprint": known.fingerprint}}
    found = unneeded_artifacts(store, [row], Limits(timedelta(0)), datetime.now(UTC) + DAY)
    assert [item.uri for item in found] == [other.uri, tried.uri]


def test_registered_versions_of_old_iterations_count_as_their_iteration(turn, store):
    first, _ = turn(1, "keep"), turn(2, "keep")
    tags = {"lineage": LINEAGE, "iteration": "1", "fingerprint": first["step"].fingerprint}
    row = {"name": PROJECT, "version": 3, "aliases": [], "uri": first["step"].uri, "tags": tags}
    limits, now = Limits(timedelta(0), keep_iterations=1), datetime.now(UTC) + DAY
    both = {first["step"].uri, first["candidate"].uri}
    assert {item.uri for item in unneeded_artifacts(store, [row], limits, now)} == both
    held = unneeded_artifacts(store, [row | {"aliases": ["champion"]}], limits, now)
    assert [item.uri for item in held] == [first["candidate"].uri], "an alias holds a version and what it came from"
    assert unneeded_artifacts(store, [row], Limits(timedelta(0)), now) == []


def test_leftovers_of_every_kind(ratchet, put, workspace, store):
    whole = put("import_model", "whole", weights, kind="checkpoint")
    damaged = put("sft", "damaged", weights, kind="checkpoint")
    damaged.quarantine("a changed byte")
    for key in (
        f"artifacts/mix/{'1' * 32}/part-00000.parquet",
        f"{whole.key}/left.bin",
        f"attempts/sft/{'2' * 32}/step-00000010/complete.json",
        f"attempts/import_model/{whole.fingerprint}/step-00000001/x.bin",
        "jobs/ratchet-7/log-1.txt",
    ):
        store.put(key, b"12345")
    copied = workspace / "cache" / "sft-abc"
    copied.mkdir(parents=True)
    (copied / "model.safetensors").write_bytes(b"123")
    assert uris(ratchet("data", "gc", "--json")) == set(), "all of it is younger than a day"
    ended = ratchet("data", "gc", *NOW, "--json")
    kinds = {item["kind"]: item for item in ended.document["items"]}
    assert set(kinds) == {"unfinished", "stray", "attempt", "quarantine", "job", "cache"}
    assert len([item for item in ended.document["items"] if item["kind"] == "attempt"]) == 2
    assert "a changed byte" in kinds["quarantine"]["reason"]
    assert (kinds["cache"]["bytes"], kinds["stray"]["bytes"], kinds["job"]["bytes"]) == (3, 5, 5)
    ratchet("data", "gc", *NOW, "--yes")
    assert sorted(store.list()) == [f"{whole.key}/manifest.json", f"{whole.key}/model.safetensors"]
    assert not copied.exists() and whole.verify() == []


def test_a_killed_removal_is_finished_by_the_next(ratchet, put, store):
    artifact = put("sft", "half", weights, kind="checkpoint")
    (item,) = unneeded_artifacts(store, None, Limits(timedelta(0)), datetime.now(UTC) + DAY)
    assert item.keys[0] == f"{artifact.key}/manifest.json" and len(item.keys) == 2
    store.delete(item.keys[0])
    assert not artifact.exists()
    assert [found["kind"] for found in ratchet("data", "gc", *NOW, "--yes", "--json").document["items"]] == [
        "unfinished"
    ]
    assert store.list() == []
    remove(store, [item], lambda uri: None)  # what is gone already is no error


def test_nothing_goes_while_the_workspace_is_in_use(ratchet, put, workspace):
    artifact = put("sft", "one", weights, kind="checkpoint")
    with workspace_lock(workspace):
        ended = ratchet("data", "gc", *NOW, "--yes", "--json")
        assert ended.code == 1 and "is in use by process" in ended.err and artifact.exists()
        assert uris(ratchet("data", "gc", *NOW, "--json")) == {artifact.uri}, "looking is allowed"


@pytest.mark.parametrize("broken", ["manifest", "record"])
def test_nothing_goes_where_needs_are_not_known(ratchet, turn, store, broken):
    made, lost = turn(1, "keep"), turn(2, None)
    key = (
        f"{made['step'].key}/manifest.json"
        if broken == "manifest"
        else f"records/{PROJECT}/{LINEAGE}/verdict-000001.json"
    )
    Path(store.location(key)).chmod(0o644)
    store.put(key, b"{")
    ended = ratchet("data", "gc", *NOW, "--yes", "--json")
    assert ended.code == 1 and "cannot be read" in ended.err and all(there(lost["data"], made["candidate"]))


@pytest.mark.parametrize(
    "arguments", [("--yes", "--dry-run"), ("--older-than", "-1"), ("--keep-iterations", "0"), ("--older-than", "soon")]
)
def test_wrong_usage(ratchet, arguments):
    ended = ratchet("data", "gc", *arguments)
    assert ended.code == 2 and ended.out == "" and len(ended.err.splitlines()) == 1


def test_it_says_what_it_found_to_a_person(ratchet, put):
    put("sft", "one", weights, kind="checkpoint")
    ended = ratchet("data", "gc", *NOW)
    assert ended.code == 0 and "checkpoint" in ended.out and "nothing was deleted: --yes does it" in ended.err
    assert "deleted 1 items" in ratchet("data", "gc", *NOW, "--yes").err
    assert "nothing to clean up" in ratchet("data", "gc", *NOW).err


def test_an_empty_store_has_no_garbage(ratchet, workspace):
    assert uris(ratchet("data", "gc", *NOW, "--json")) == set() and not workspace.exists()


def test_closure_follows_every_input(put, store):
    first = put("a", "first", weights)
    second = put("b", "second", weights, inputs={"many": (first,)})
    third = put("c", "third", weights, inputs={"one": second})
    assert closure([third.fingerprint, "0" * 32], read_manifests(store)) == {
        first.fingerprint, second.fingerprint, third.fingerprint,
    }  # fmt: skip


def test_ages_on_s3(s3_server, monkeypatch):
    for name, value in s3_server.variables().items():
        monkeypatch.setenv(name, value)
    store = Storage.open(f"s3://{BUCKET}/gc")
    store.put("jobs/one/log.txt", b"x")
    assert modified(store, "nothing") == {}
    (changed,) = modified(store, "jobs").items()
    assert changed[0] == "jobs/one/log.txt" and abs(datetime.now(UTC) - changed[1]) < timedelta(minutes=5)
