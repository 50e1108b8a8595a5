"""`ratchet data gc --yes` deletes nothing where it cannot know what is needed, or while anything is at work."""

import json
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Running

from deployments.commands.data_gc import delete
from deployments.commands.options import read_settings
from deployments.garbage import Garbage
from deployments.idle import check_nothing_runs, written
from deployments.removal import remove
from infra.errors import StoreError
from infra.lock import workspace_lock
from infra.stack import Stack
from infra.storage import Storage
from tasks.rows import TEXT
from tests.deployments.registries import register
from tests.deployments.test_data_gc import NOW, clean, garbage, rest, text, there, turn, uris, weights

__all__ = ["clean", "turn"]
"""Fixtures of the other file."""
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def lost(put_rows):
    return put_rows("mix", "lost", [text(1)], TEXT)


def test_nothing_goes_while_the_workspace_is_in_use(clean, lost, workspace):
    with workspace_lock(workspace):
        ended = clean("--yes")
        assert ended.code == 1 and "is in use by process" in ended.err and lost.exists()
        assert uris(clean()) == {lost.uri}, "looking is allowed"


@pytest.mark.parametrize("broken", ["manifest", "record"])
def test_nothing_goes_where_needs_are_not_known(clean, turn, lost, store, broken):
    made = turn(1, "keep")
    record = f"records/demo/{'0123456789abcdef'}/verdict-000001.json"
    key = f"{made['step'].key}/manifest.json" if broken == "manifest" else record
    Path(store.location(key)).chmod(0o644)
    store.put(key, b"{")
    ended = clean("--yes")
    assert ended.code == 1 and "cannot be read" in ended.err and all(there(lost, made["candidate"]))


def test_a_circle_of_inputs_is_one_line(clean, put_rows, lost):
    other = put_rows("mix", "other", [text(2)], TEXT, inputs={"rows": lost})
    manifest = Path(lost.uri, "manifest.json")
    manifest.chmod(0o644)
    values = json.loads(manifest.read_text()) | {"inputs": {"rows": other.fingerprint}, "input_stages": {"rows": "mix"}}
    manifest.write_text(json.dumps(values))
    ended = clean("--yes")
    assert ended.code == 1 and "name each other as inputs" in ended.err and "Traceback" not in ended.err


def test_a_registry_that_does_not_answer_stops_it(clean, put, lost, workspace, monkeypatch):
    model = put("sft", "prod", weights, kind="checkpoint")
    register(workspace, model, "prod", alias="prod")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    ended = clean("--yes")
    assert ended.code == 1 and "no MLflow server answers" in ended.err and all(there(model, lost))
    assert uris(clean()) == {lost.uri}, "a look counts every model as registered"


def test_a_damaged_database_stops_it(clean, put, lost, workspace):
    model = put("sft", "prod", weights, kind="checkpoint")
    (workspace / "db").mkdir(parents=True)
    (workspace / "db" / "mlflow.db").write_bytes(b"no database " * 100)
    ended = clean("--yes")
    assert ended.code == 1 and "mlflow.db cannot be read" in ended.err and all(there(model, lost))


def test_the_workspaces_registry_says_nothing_of_a_store_elsewhere(clean, put, lost, workspace, store, monkeypatch):
    stray = put("sft", "stray", weights, kind="checkpoint")
    register(workspace, put("sft", "known", weights, kind="checkpoint"))
    assert uris(clean()) == {lost.uri, stray.uri}
    elsewhere = workspace.parent / "shared"
    Path(store.uri).rename(elsewhere)
    monkeypatch.setenv("RATCHET_STORE", str(elsewhere))
    rest(Storage.open(elsewhere))
    ended = clean("--yes")
    assert uris(ended) == {f"{elsewhere}/{lost.key}"} and "MLFLOW_TRACKING_URI is not set" in ended.err


def test_a_registry_that_knows_none_of_the_models_is_another_ones(clean, put, put_rows, lost, workspace, store):
    model = put("sft", "model", weights, kind="checkpoint")
    gone = put("sft", "gone", weights, kind="checkpoint")
    register(workspace, gone)
    store.delete_folder(gone.key)
    ended = clean("--yes")
    assert uris(ended) == {lost.uri} and model.exists() and "the registry knows no model of this store" in ended.err


@pytest.mark.parametrize("key", ["jobs/ratchet-1/log-1.txt", f"attempts/sft/{'1' * 32}/step-00000010/x.bin",
                                 f"artifacts/mix/{'1' * 32}/part-00000.parquet"])  # fmt: skip
def test_a_run_of_another_workspace_on_the_same_store_stops_it(ratchet, lost, store, tmp_path, monkeypatch, key):
    rest(store)
    store.put(key, b"12345")
    monkeypatch.setenv("RATCHET_STORE", store.uri)
    for workspace in ("workspace", "other"):
        ended = ratchet("data", "gc", *NOW, "--yes", "--workspace", tmp_path / workspace)
        assert ended.code == 1 and f"something writes to {store.uri}: {key}" in ended.err and lost.exists()
        assert "wait until nothing has been written for 10 minutes: 10 more" in ended.err


def test_an_unfinished_write_stops_it(ratchet, lost, store):
    rest(store)
    staging = Path(store.uri, ".tmp")
    staging.mkdir(exist_ok=True)
    (staging / "77-abc").write_bytes(b"half")
    ended = ratchet("data", "gc", *NOW, "--yes")
    assert ended.code == 1 and "something writes to" in ended.err and lost.exists()


def test_what_begins_to_be_written_meanwhile_stops_it(lost, put_rows, store):
    half = f"artifacts/mix/{'1' * 32}/part-00000.parquet"
    store.put(half, b"12345")
    rest(store)
    seen, items = written(store), garbage(store)
    store.put(f"artifacts/mix/{'1' * 32}/manifest.json", b"{}")
    with pytest.raises(StoreError, match="something began to write"):
        next(remove(store, items, seen, lambda uri: None))
    assert lost.exists() and store.exists(half)


def test_a_commit_between_two_deletions_stops_it_at_once(put_rows, lost, store):
    put_rows("mix", "second", [text(2)], TEXT)
    rest(store)
    seen, items = written(store), garbage(store)
    removing = remove(store, items, seen, lambda uri: None)
    first = next(removing)
    last = next(item for item in items if item != first)
    store.put(f"{last.folder}/part-00009.parquet", b"more")
    with pytest.raises(StoreError, match="something began to write"):
        next(removing)
    assert all(map(store.exists, last.keys))


def test_what_went_before_an_error_is_said(lost, store, capsys):
    nobodys = Path("/proc/version")  # root cannot remove it either
    items = [*garbage(store), Garbage(str(nobodys), "cache", 0, "", local=nobodys)]
    with pytest.raises(StoreError, match=r"not permitted|denied"):
        delete(store, items, written(store))
    assert "deleted 1 item, " in capsys.readouterr().err and not lost.exists()


@flow
def idle() -> None:
    """Never called: only its runs are looked at."""


def test_a_flow_run_under_way_stops_it(clean, lost, workspace, monkeypatch):
    with Stack(workspace) as stack:
        api = stack.start({"prefect"}).prefect_api_url
        assert check_nothing_runs(read_settings(workspace)) is None
        with SyncPrefectClient(api=api) as client:  # asks again where the server is busy
            client.create_flow_run(idle, name="demo · today", state=Running())
        ended = clean("--yes")
        assert ended.code == 1 and "flow runs are under way" in ended.err and "demo · today" in ended.err
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    ended = clean("--yes")
    assert ended.code == 1 and "no Prefect server answers" in ended.err and lost.exists()
