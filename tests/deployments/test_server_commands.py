"""The commands around real servers: one stack that `ratchet up` starts, models in and out of its registry, the way
back to an older generator, and deployments that a worker runs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from deployments.deploy import append_iteration
from deployments.plans import load_plan
from flows.bookkeeping import Book
from flows.products import Foundations, Given
from flows.runner import Site
from flows.succession import line_of_generators, point_aliases
from infra.artifacts import Artifact, list_artifacts
from infra.ports import free_ports
from infra.records import VerdictRecord
from infra.stack import Endpoints, Stack
from infra.storage import Storage
from infra.tracking import Registry, Tracker
from models.checkpoint import load_model
from tests.environment import bare_environment

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DEPLOYMENT = ("deploy", "--preset", "tiny", "--json")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace whose stack `ratchet up` has started."""
    folder = tmp_path_factory.mktemp("servers") / "workspace"
    ports = [f"--{name}-port={port}" for name, port in zip(("prefect", "mlflow", "ray"), free_ports(3), strict=True)]
    try:
        document = shell("up", *ports, "--workspace", folder, "--json")
        assert document["mode"] == "up" and [item["healthy"] for item in document["services"]] == [True] * 3
        yield folder
    finally:
        assert shell("down", "--workspace", folder, "--json") == {"workspace": str(folder), "stopped": True}
    assert shell("down", "--workspace", folder, "--json") == {"workspace": str(folder), "stopped": False}
    assert shell("status", "--workspace", folder, "--json")["mode"] == "down"


def shell(*arguments: object) -> Any:
    """The JSON document of a `ratchet` command in a process of its own."""
    command = [str(BIN / "ratchet"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=bare_environment())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def endpoints(workspace: Path) -> Endpoints:
    return Stack(workspace).status().endpoints


@pytest.fixture
def imported(ratchet: Any, model_folder: Callable[[int], Path]) -> Callable[..., dict[str, Any]]:
    """`imported("name", 1)` brings model number 1 in and returns its row."""

    def make(name: str, seed: int, *more: str) -> dict[str, Any]:
        ended = ratchet("import", model_folder(seed), "--name", name, "--json", *more)
        assert ended.code == 0, ended.err
        return ended.document

    return make


# The stack.


def test_status_tells_where_everything_is(ratchet: Any, workspace: Path) -> None:
    document = ratchet("status", "--json").document
    assert (document["mode"], document["workspace"]) == ("up", str(workspace))
    assert [item["name"] for item in document["services"]] == ["prefect", "mlflow", "ray"]
    for item in document["services"]:
        assert httpx.get(item["page"], follow_redirects=True).status_code == 200
    ended = ratchet("status")
    assert ended.code == 0 and document["prefect_api_url"].removesuffix("/api") in ended.out and "healthy" in ended.out


def test_a_second_stack_is_refused_with_1(ratchet: Any) -> None:
    ended = ratchet("up", "--json")
    assert ended.code == 1 and "run already" in ended.err
    assert "run already" in ended.document["error"]["message"]


def test_doctor_sees_the_servers(ratchet: Any) -> None:
    ended = ratchet("doctor", "--json")
    found = {check["name"]: check for check in ended.document["checks"]}
    assert all("answers" in found[name]["found"] for name in ("prefect", "mlflow", "ray"))
    assert ended.document["ok"] is all(check["ok"] for check in found.values() if check["needed"])
    assert ended.code == (0 if ended.document["ok"] else 1)


# Models in and out.


def test_an_imported_model_is_registered_once(imported: Any, ratchet: Any) -> None:
    row = imported("guest", 1, "--licence", "MIT", "--alias", "generator")
    assert (row["name"], row["version"], row["aliases"]) == ("guest", 1, ["generator"])
    assert row["tags"]["licence"] == "MIT" and row["uri"].endswith(row["tags"]["fingerprint"])
    assert imported("guest", 1, "--licence", "MIT")["version"] == 1, "the same content is the same version"
    assert imported("guest", 2)["aliases"] == []
    listed = ratchet("models", "--project", "guest", "--json").document
    assert [(item["version"], item["aliases"]) for item in listed] == [(2, []), (1, ["generator"])]
    assert listed[1] == row and set(row) == {"name", "version", "aliases", "uri", "tags"}
    assert "models:/guest/2" in ratchet("models").out
    assert ratchet("models", "--project", "nobody", "--json").document == []


def test_a_model_goes_out_as_it_came_in(
    imported: Any, ratchet: Any, model_folder: Callable[[int], Path], tmp_path: Path
) -> None:
    row = imported("traveller", 3)
    ended = ratchet("export", "models:/traveller/1", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    assert ended.document["artifact"] == row["uri"] and ended.document["folder"] == str(tmp_path / "out")
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(ended.document["files"])
    tokens = torch.arange(24)[None]
    (ours, _), (theirs, _) = load_model(tmp_path / "out"), load_model(model_folder(3))
    assert torch.equal(ours(tokens), theirs(tokens))
    card = (tmp_path / "out" / "README.md").read_text()
    assert row["tags"]["fingerprint"] in card and "models:/traveller/1" in card
    again = ratchet("export", "models:/traveller/1", tmp_path / "out", "--json")
    assert again.code == 2 and "holds files already" in again.err
    (tmp_path / "empty").mkdir()
    assert ratchet("export", row["uri"], tmp_path / "empty", "--json").code == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_damaged_model_is_not_exported(imported: Any, ratchet: Any, tmp_path: Path) -> None:
    weights = Path(imported("broken", 4)["uri"]) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(data)
    ended = ratchet("export", "models:/broken/1", tmp_path / "out")
    assert ended.code == 1 and "model.safetensors" in ended.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("import", "/no/such/file", "--name", "x"), "no model at '/no/such/file'"),
        (("import", __file__, "--name", "x"), "no GGUF file"),
        (("import", "/tmp", "--name", "a/b"), "--name 'a/b'"),
        (("import", "/tmp", "--name", "x", "--alias", "latest"), "--alias 'latest'"),
        (("export", "models:/nobody/1", "/tmp/ratchet-out"), "'models:/nobody/1' is not in the registry"),
        (("export", "models:/nobody/1", __file__), "is a file"),
        (("rollback", "--project", "nobody"), "project 'nobody' has no iterations"),
    ],
)
def test_bad_input_ends_with_2(ratchet: Any, arguments: tuple[str, ...], words: str) -> None:
    ended = ratchet(*arguments, "--json")
    assert ended.code == 2 and words in ended.err and words in ended.document["error"]["message"]


# The way back.


def promote(book: Book, number: int, given: Foundations, candidate: Artifact) -> None:
    """What the wheel writes about an iteration whose candidate is better."""
    generator = book.pin(number, given)
    models = {"candidate": candidate, "generator": generator, "next_generator": candidate}
    book.records.put("verdict", number, VerdictRecord(number=number, verdict="promote", **models))  # type: ignore[arg-type]


def test_rollback_goes_back_and_the_next_iteration_starts_there(
    imported: Any, ratchet: Any, workspace: Path, endpoints: Endpoints
) -> None:
    store, tracker = Storage.open(workspace / "store"), Tracker(str(endpoints.mlflow_tracking_uri), "wheel")
    uris = {imported("wheel", seed)["uri"]: seed for seed in (10, 11, 12)}
    found = {uris[item.uri]: item for item in list_artifacts(store, "import_model") if item.uri in uris}
    first, second, third = (found[seed] for seed in (10, 11, 12))
    plan = load_plan("tiny", None, ())
    site = Site(store.uri, workspace, 1, lambda: str(endpoints.ray_address))
    book = Book(plan, "wheel", "line", site, tracker, "ratchet run")
    given = Foundations(first, first, third, third, None, Given())
    promote(book, 1, given, second)
    promote(book, 2, given, third)
    point_aliases(Registry(tracker), line_of_generators(book.records))
    assert aliases(ratchet) == {"generator": 3, "previous": 2}

    document = ratchet("rollback", "--reason", "worse in chat", "--project", "wheel", "--json").document
    assert document == {
        "generator": "models:/wheel/2", "from": "models:/wheel/3", "lineage": "line", "sequence": 1,
        "after_iteration": 2, "reason": "worse in chat",
    }  # fmt: skip
    assert aliases(ratchet) == {"generator": 2, "previous": 1}
    left = ratchet("models", "--project", "wheel", "--json").document[0]
    assert left["version"] == 3 and left["tags"]["rolled_back"] == "worse in chat"

    assert book.pin(3, given) == second, "the next iteration starts from the generator in place"
    assert ratchet("rollback").code == 0, "the only project need not be named"
    assert aliases(ratchet) == {"generator": 1}
    ended = ratchet("rollback", "--json")
    assert ended.code == 1 and "no previous generator" in ended.document["error"]["message"]

    assert book.pin(2, given) == second
    assert book.pin(3, given) == second, "an iteration that was under way keeps its generator"
    assert book.generator_after(2) == first


def aliases(ratchet: Any) -> dict[str, int]:
    rows = ratchet("models", "--project", "wheel", "--json").document
    return {alias: row["version"] for row in rows for alias in row["aliases"]}


def test_a_plan_may_name_a_registered_model(imported: Any, ratchet: Any) -> None:
    uri = imported("planned", 20)["uri"]
    changes = ("--set", "generator=models:/planned/1", "--set", "base=models:/planned/1")
    document = ratchet("plan", "--preset", "smollm", *changes, "--json").document
    assert [model["state"] for model in document["models"]] == ["in the store"] * 2
    assert document["iterations"][0]["generator"] == uri and document["lineage"]


# Deployments.


def read(endpoints: Endpoints, path: str, **body: Any) -> Any:
    answer = httpx.request("POST" if body else "GET", f"{endpoints.prefect_api_url}{path}", json=body or None)
    return answer.json() | {"status_code": answer.status_code}


def test_a_deployment_is_registered_with_schedule_limit_and_form(
    ratchet: Any, endpoints: Endpoints, workspace: Path, tmp_path: Path
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("preset: tiny\npreference_tuning: {1: {beta: 0.3}}\ngate: {min_items: 250}\n")
    changes = ("--config", config, "--set", "gate.min_gain=0.02", "--cron", "30 2 * * *", "--timezone", "Asia/Seoul")
    ended = ratchet("deploy", *changes, "--collision", "cancel-new", "--json")
    assert ended.code == 0, ended.err
    document = ended.document
    assert document["deployment"] == "append-iteration/mine" and document["id"] in document["url"]
    found = read(endpoints, f"/deployments/{document['id']}")
    assert [item["schedule"] for item in found["schedules"]] == [
        {"cron": "30 2 * * *", "timezone": "Asia/Seoul", "day_or": True}
    ]
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert found["job_variables"]["env"]["RATCHET_WORKSPACE"] == str(workspace)
    assert load_plan("tiny", None, found["parameters"]["changes"]) == load_plan(None, config, ["gate.min_gain=0.02"])
    form = found["parameter_openapi_schema"]["properties"]
    assert set(form) == {"preset", "changes", "iterations"} and "tiny" in form["preset"]["enum"]
    again = ratchet("deploy", *changes, "--json").document
    assert again["id"] == document["id"], "the same name is the same deployment"
    path = f"/deployments/{document['id']}/create_flow_run"
    assert read(endpoints, path, parameters={"preset": "no-such"})["status_code"] in (409, 422)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--cron", "every night"), 2, "--cron 'every night'"),
        (("--cron", "0 2 * * *", "--timezone", "Mars/Olympus"), 2, "Mars/Olympus"),
        (("--set", "gate.min_gian=1"), 2, "did you mean 'min_gain'"),
        (("--collision", "both"), 2, "--collision"),
    ],
)
def test_a_wrong_deployment_is_refused(ratchet: Any, arguments: tuple[str, ...], code: int, words: str) -> None:
    ended = ratchet(*DEPLOYMENT, *arguments)
    assert ended.code == code and words in ended.err


def test_a_server_that_is_away(ratchet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_ports(1)[0]}/api")
    ended = ratchet(*DEPLOYMENT)
    assert ended.code == 1 and "no Prefect server answers" in ended.err


def test_prefect_takes_the_file_as_it_is(ratchet: Any, endpoints: Endpoints, tmp_path: Path) -> None:
    assert ratchet(*DEPLOYMENT).code == 0  # makes the pool
    command = [BIN / "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml"]
    done = subprocess.run(
        command, cwd=ROOT, env=prefect_environment(endpoints, tmp_path), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for preset in ("tiny", "smollm", "smollm_full", "h100_node", "nemotron_4_340b", "nemotron_4_15b"):
        found = read(endpoints, f"/deployments/name/{append_iteration.name}/{preset}")
        assert (found["parameters"], found["work_pool_name"]) == ({"preset": preset}, "ratchet")
        assert found["global_concurrency_limit"]["limit"] == 1


def prefect_environment(endpoints: Endpoints, home: Path) -> dict[str, str]:
    ours = {"PREFECT_API_URL": str(endpoints.prefect_api_url), "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"}
    return {**os.environ, **ours, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


@pytest.mark.slow
def test_a_worker_runs_it_and_cancelling_stops_the_job(
    ratchet: Any, endpoints: Endpoints, workspace: Path, tmp_path: Path
) -> None:
    registered = ratchet(*DEPLOYMENT, "--name", "worked", "--set", "seed=77").document
    log = (tmp_path / "worker.log").open("wb")
    command = [BIN / "prefect", "worker", "start", "--pool", registered["pool"]]
    worker = subprocess.Popen(
        command, cwd=tmp_path, env=prefect_environment(endpoints, tmp_path), stdout=log, stderr=log
    )
    try:
        run = read(endpoints, f"/deployments/{registered['id']}/create_flow_run", state={"type": "SCHEDULED"})["id"]
        store = Storage.open(workspace / "store")
        wait(lambda: jobs(endpoints).get("pretrain") == "RUNNING", 180)
        assert any(item.stage == "world-tokenizer" for item in list_artifacts(store)), "the jobs before it left theirs"
        cancelling = {"type": "CANCELLING", "name": "Cancelling"}
        assert read(endpoints, f"/flow_runs/{run}/set_state", state=cancelling)["status"] == "ACCEPT"
        wait(lambda: read(endpoints, f"/flow_runs/{run}")["state_type"] == "CANCELLED", 90)
        wait(lambda: jobs(endpoints)["pretrain"] == "STOPPED", 30)
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait(60)
        log.close()


def jobs(endpoints: Endpoints) -> dict[str, str]:
    """State of each Ray job, by its name."""
    found = httpx.get(f"{endpoints.ray_address}/api/jobs/").json()
    return {job["metadata"]["job"]: job["status"] for job in found}


def wait(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)
