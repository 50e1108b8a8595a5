"""`ratchet data gc`: what may go and what must stay, on real stores; nothing that a record needs is ever listed.

tests/deployments/test_data_gc_refusals.py holds when it must not delete at all.
"""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from deployments.garbage import Garbage, closure, unneeded_artifacts
from deployments.idle import written
from deployments.lineage import read_manifests
from deployments.needed import Limits, find_needs
from deployments.removal import remove
from infra.artifacts import Artifact
from infra.output import Output
from infra.records import IterationRecord, PromotionRecord, Records, VerdictRecord
from infra.storage import Storage
from tasks.rows import TEXT, make_row
from tests.deployments.registries import register
from tests.s3_server import BUCKET

NOW = ("--older-than", "0", "--abandoned-after", "0")
NONE = Limits(timedelta(0), abandoned_after=timedelta(0))
PROJECT, LINEAGE = "demo", "0123456789abcdef"
DAY = timedelta(days=1)


def weights(output: Output) -> None:
    output.write_text("model.safetensors", "weights")


def text(number: int) -> dict[str, Any]:
    values = {"text": f"text {number}", "source": "test", "synthetic": False, "generator": "", "licence": "MIT"}
    return make_row(TEXT, values, number)


def last_written(file: str, ago_s: float) -> None:
    then = time.time() - ago_s
    os.utime(file, (then, then))


def rest(store: Storage) -> None:
    """As if nothing had been written for a quarter of an hour."""
    for key in store.list():
        last_written(store.location(key), 900)


@pytest.fixture
def clean(ratchet, store) -> Callable[..., Any]:
    """`clean()` is `ratchet data gc` with every age limit at zero, and deletes with "--yes"."""

    def run(*arguments: str) -> Any:
        rest(store)
        return ratchet("data", "gc", *NOW, *arguments, "--json")

    return run


def garbage(store: Storage, registered: Any = None, limits: Limits = NONE, later: timedelta = DAY) -> list[Garbage]:
    manifests = read_manifests(store)
    return unneeded_artifacts(
        store, manifests, find_needs(store, manifests, registered, limits, datetime.now(UTC) + later)
    )


@pytest.fixture
def turn(put, put_rows, store, workspace) -> Callable[..., dict[str, Artifact]]:
    """`turn(1, "keep")` makes an iteration's artifacts and its records, as the wheel does."""
    records = Records(store, PROJECT, LINEAGE)
    base = put("import_model", "base", weights, kind="checkpoint")
    register(workspace, base)

    def make(
        number: int, verdict: Literal["promote", "keep", "insufficient"] | None, generator: Artifact = base
    ) -> dict[str, Artifact]:
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


def test_what_a_record_needs_is_never_listed(clean, turn):
    first = turn(1, "keep")
    turn(2, "promote")
    ended = clean()
    assert uris(ended) == set() and ended.document == {"deleted": False, "items": [], "bytes": 0}
    assert clean("--yes").document["items"] == []
    assert all(there(*first.values()))


def test_an_abandoned_run_goes_children_first(ratchet, clean, turn, put, store):
    kept = turn(1, "promote")
    lost = turn(2, None, generator=kept["candidate"])
    inside = {lost[name].uri for name in ("data", "step", "candidate", "exam")}
    dry = clean()
    assert uris(dry) == inside and not dry.document["deleted"] and all(there(*lost.values()))
    order = [item["uri"] for item in dry.document["items"]]
    assert order.index(lost["exam"].uri) < order.index(lost["candidate"].uri) < order.index(lost["step"].uri)
    assert dry.document["bytes"] == sum(
        file.stat().st_size for name in ("data", "step", "candidate", "exam") for file in Path(lost[name].uri).iterdir()
    )
    done = clean("--yes")
    assert uris(done) == inside and done.document["deleted"]
    assert there(*(lost[name] for name in ("data", "step", "candidate", "exam"))) == [False] * 4
    assert not Path(lost["step"].uri).exists() and all(there(*kept.values()))
    assert ratchet("data", "verify", "--json").document == {"checked": 7, "bad": []}
    assert uris(clean()) == set()


def test_an_iteration_under_way_stays_until_it_counts_as_abandoned(ratchet, turn, put_rows, store):
    """A run that was killed on Friday and is gone on with on Monday."""
    items = put_rows("evaluation-set", "items", [text(7)], TEXT)
    lost = turn(1, None)
    left, state = f"artifacts/mix/{'1' * 32}/part-00000.parquet", f"attempts/sft/{'2' * 32}/step-00000010/complete.json"
    for key in (left, state):
        store.put(key, b"12345")
    spec = {"steps": [{"label": "exam", "inputs": {"items": items.model_dump()}}]}
    store.put("jobs/ratchet-1/spec.json", json.dumps(spec).encode())
    for artifact in (items, *lost.values()):
        age(artifact, 3 * DAY)
    record = Path(store.location(f"records/{PROJECT}/{LINEAGE}/iteration-000001.json"))
    begun(record, 4 * DAY)
    for key in store.list():
        last_written(store.location(key), 3 * 86400)
    ended = ratchet("data", "gc", "--yes", "--json")
    assert uris(ended) == set() and all(there(items, *lost.values())) and store.exists(left) and store.exists(state)
    assert f"iteration 1 of {PROJECT} (lineage {LINEAGE}) has no verdict" in ended.err
    assert uris(ratchet("data", "gc", "--abandoned-after", "2", "--json")) == {
        items.uri, store.location("jobs/ratchet-1"), store.location(left.rpartition("/")[0]),
        store.location(state.rsplit("/", 2)[0]), *(lost[name].uri for name in ("data", "step", "candidate", "exam")),
    }  # fmt: skip


def begun(record: Path, ago: timedelta) -> None:
    record.chmod(0o644)
    values = json.loads(record.read_text()) | {"created": (datetime.now(UTC) - ago).isoformat(timespec="seconds")}
    record.write_text(json.dumps(values))


def test_what_a_job_names_stays_while_its_state_is_new(ratchet, put_rows, store):
    """A job of weeks: its settings are old, its resume states are not."""
    data = put_rows("documents", "data", [text(1)], TEXT)
    age(data, 30 * DAY)
    steps = [{"artifact": {"fingerprint": "3" * 32}, "inputs": {"documents": data.model_dump()}}]
    store.put("jobs/ratchet-1/spec.json", json.dumps({"steps": steps}).encode())
    store.put(f"attempts/pretrain/{'3' * 32}/step-00000010/complete.json", b"{}")
    for key in ("jobs/ratchet-1/spec.json", f"{data.key}/manifest.json", f"{data.key}/part-00000.parquet"):
        last_written(store.location(key), 30 * 86400)
    assert uris(ratchet("data", "gc", "--json")) == set()
    store.delete_folder("attempts")
    assert uris(ratchet("data", "gc", "--json")) == {data.uri, store.location("jobs/ratchet-1")}


def test_killed_between_verdict_and_report_the_examinations_stay(clean, turn, store):
    first = turn(1, "keep")
    store.delete_folder(first["report"].key)
    assert uris(clean()) == set() and all(there(first["exam"], first["gate"]))


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


def age(artifact: Artifact, by: timedelta, zone: bool = True, created: str = "") -> None:
    manifest = Path(artifact.uri, "manifest.json")
    values = json.loads(manifest.read_text())
    then = datetime.now(UTC) - by
    values["created"] = created or (then if zone else then.replace(tzinfo=None)).isoformat(timespec="seconds")
    manifest.chmod(0o644)
    manifest.write_text(json.dumps(values))


def test_a_job_of_today_holds_its_inputs(ratchet, put_rows, store):
    waiting = put_rows("documents", "waiting", [text(1)], TEXT)
    age(waiting, 20 * DAY)
    spec = {"steps": [{"label": "sft", "inputs": {"dialogues": [waiting.model_dump()]}}]}
    store.put("jobs/ratchet-1/spec.json", json.dumps(spec).encode())
    assert uris(ratchet("data", "gc", "--json")) == set()
    for key in store.list():
        last_written(store.location(key), 20 * 86400)
    ended = ratchet("data", "gc", "--json")
    assert uris(ended) == {waiting.uri, store.location("jobs/ratchet-1")}
    assert "sft" in next(item["reason"] for item in ended.document["items"] if item["kind"] == "job")


def test_keep_iterations_takes_only_old_unpromoted_checkpoints(clean, turn):
    first, second, third = turn(1, "keep"), turn(2, "promote"), turn(3, "insufficient")
    fourth = turn(4, "keep")
    assert uris(clean()) == set()
    assert uris(clean("--keep-iterations", "4")) == set()
    ended = clean("--keep-iterations", "1", "--yes")
    gone = [turn[name] for turn in (first, third) for name in ("step", "candidate")]
    assert uris(ended) == {artifact.uri for artifact in gone}
    assert all("would train it again" in item["reason"] for item in ended.document["items"])
    assert there(*gone) == [False] * 4 and all(there(*second.values(), *fourth.values()))
    assert all(there(*(first[name] for name in ("base", "data", "exam", "gate", "report"))))


def test_every_model_stays_where_no_registry_can_say(clean, put, put_rows, store):
    data = put_rows("mix", "data", [text(1)], TEXT)
    other = put_rows("mix", "other", [text(2)], TEXT)
    known = put("sft", "known", weights, kind="checkpoint", inputs={"dialogues": data})
    tried = put("import_model", "tried", weights, kind="checkpoint")
    ended = clean("--yes")
    assert uris(ended) == {other.uri} and "this workspace has no registry: every model is kept" in ended.err
    row = {"name": "guest", "version": 1, "aliases": [], "uri": known.uri, "tags": {"fingerprint": known.fingerprint}}
    assert [item.uri for item in garbage(store, [row])] == [tried.uri]


def test_registered_versions_of_old_iterations_count_as_their_iteration(turn, store):
    first, _ = turn(1, "keep"), turn(2, "keep")
    tags = {"lineage": LINEAGE, "iteration": "1", "fingerprint": first["step"].fingerprint}
    row = {"name": PROJECT, "version": 3, "aliases": [], "uri": first["step"].uri, "tags": tags}
    limits = Limits(timedelta(0), keep_iterations=1, abandoned_after=timedelta(0))
    both = {first["step"].uri, first["candidate"].uri}
    assert {item.uri for item in garbage(store, [row], limits)} == both
    held = garbage(store, [row | {"aliases": ["champion"]}], limits)
    assert [item.uri for item in held] == [first["candidate"].uri], "an alias holds a version and what it came from"
    held = garbage(store, [row | {"tags": tags | {"iteration": "final"}}], limits)
    assert [item.uri for item in held] == [first["candidate"].uri], "an iteration that is no number is no old one"
    assert garbage(store, [row]) == []


@pytest.mark.parametrize("left_out", ["uri", "fingerprint"])
def test_a_version_holds_its_artifact_by_tag_or_address(clean, put, workspace, left_out):
    register(workspace, put("sft", "other", weights, kind="checkpoint"))
    known = put("sft", "known", weights, kind="checkpoint")
    register(workspace, known, alias="prod", **{left_out: ""})
    assert uris(clean("--yes")) == set() and known.exists()


def test_a_version_that_names_no_artifact_is_said(clean, put, workspace):
    register(workspace, put("sft", "known", weights, kind="checkpoint"))
    register(workspace, put("sft", "lost", weights, kind="checkpoint"), "guest", uri="", fingerprint="")
    ended = clean()
    assert len(uris(ended)) == 1 and "version 1 of guest in the registry names no artifact" in ended.err


def test_leftovers_of_every_kind(ratchet, clean, put, workspace, store):
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
    ended = clean()
    kinds = {item["kind"]: item for item in ended.document["items"]}
    assert set(kinds) == {"unfinished", "stray", "attempt", "quarantine", "job", "cache"}
    assert len([item for item in ended.document["items"] if item["kind"] == "attempt"]) == 2
    assert "a changed byte" in kinds["quarantine"]["reason"]
    assert (kinds["cache"]["bytes"], kinds["stray"]["bytes"], kinds["job"]["bytes"]) == (3, 5, 5)
    clean("--yes")
    assert sorted(store.list()) == [f"{whole.key}/manifest.json", f"{whole.key}/model.safetensors"]
    assert not copied.exists() and whole.verify() == []


def test_a_cache_holds_files_and_links_too(clean, workspace, tmp_path):
    (workspace / "cache").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("kept")
    for name, target in (("broken", tmp_path / "nothing"), ("folder", outside)):
        (workspace / "cache" / name).symlink_to(target)
    (workspace / "cache" / "file.gguf").write_bytes(b"123")
    found = {Path(item["uri"]).name: item["bytes"] for item in clean().document["items"]}
    assert {*found} == {"broken", "folder", "file.gguf"} and found["file.gguf"] == 3
    assert len(uris(clean("--yes"))) == 3
    assert [*(workspace / "cache").iterdir()] == [] and (outside / "kept.txt").exists()


def test_a_killed_removal_is_finished_by_the_next(clean, put_rows, store):
    artifact = put_rows("mix", "half", [text(1)], TEXT)
    (item,) = garbage(store)
    assert item.keys[0] == f"{artifact.key}/manifest.json" and len(item.keys) == 2
    store.delete(item.keys[0])
    assert not artifact.exists()
    assert [found["kind"] for found in clean("--yes").document["items"]] == ["unfinished"]
    assert store.list() == []
    assert [*remove(store, [item], written(store), lambda uri: None)] == [item], "what is gone already is no error"


@pytest.mark.parametrize(
    "arguments",
    [("--yes", "--dry-run"), ("--older-than", "-1"), ("--keep-iterations", "0"), ("--older-than", "soon"),
     ("--older-than", "nan"), ("--older-than", "inf"), ("--abandoned-after", "800000"), ("--older-than", "1e12")],
)  # fmt: skip
def test_wrong_usage(ratchet, arguments):
    ended = ratchet("data", "gc", *arguments)
    assert ended.code == 2 and ended.out == "" and len(ended.err.splitlines()) == 1


def test_it_says_what_it_found_to_a_person(ratchet, put_rows, store):
    put_rows("mix", "one", [text(1)], TEXT)
    rest(store)
    ended = ratchet("data", "gc", *NOW)
    assert ended.code == 0 and "dataset" in ended.out and "nothing was deleted: --yes does it" in ended.err
    assert "deleted 1 item, " in ratchet("data", "gc", *NOW, "--yes").err
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


def test_stray_files_among_records_are_none(clean, turn, store):
    turn(1, "keep")
    for key in ("records/README", "records/.DS_Store", f"records/{PROJECT}/notes.txt"):
        store.put(key, b"not a record")
    assert uris(clean()) == set()


def test_times_without_a_zone_are_utc_and_broken_ones_are_new(ratchet, put_rows):
    old, odd = put_rows("mix", "old", [text(1)], TEXT), put_rows("mix", "odd", [text(2)], TEXT)
    age(old, 2 * DAY, zone=False)
    age(odd, 2 * DAY, created="some day")
    assert uris(ratchet("data", "gc", "--json")) == {old.uri}


def test_on_s3_a_run_of_another_workspace_is_seen(ratchet, put, put_rows, s3_server, monkeypatch):
    for name, value in s3_server.variables().items():
        monkeypatch.setenv(name, value)
    lost, model = put_rows("mix", "lost", [text(1)], TEXT), put("sft", "model", weights, kind="checkpoint")
    there = Storage.open(f"s3://{BUCKET}/gc")
    monkeypatch.setenv("RATCHET_STORE", there.uri)
    for artifact in (lost, model):
        for file in Path(artifact.uri).iterdir():
            there.put(f"{artifact.key}/{file.name}", file.read_bytes())
    ended = ratchet("data", "gc", *NOW, "--json")
    assert uris(ended) == {f"{there.uri}/{lost.key}"} and "MLFLOW_TRACKING_URI is not set" in ended.err
    refused = ratchet("data", "gc", *NOW, "--yes", "--json")
    assert refused.code == 1 and "something writes to s3://" in refused.err
    seen, (item,) = written(there), garbage(there)
    assert all(abs(datetime.now(UTC) - changed) < timedelta(minutes=5) for changed in seen.values()) and len(seen) == 4
    assert [*remove(there, [item], seen, lambda uri: None)] == [item]
    assert {key.split("/")[1] for key in there.list()} == {"sft"}
