"""The local services, all real: one stack that stays, as `ratchet up` makes it; small embedded ones; the doctor."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import mlflow
import psutil
import pytest

from infra.doctor import Check, doctor
from infra.errors import InputError, ServiceError
from infra.ports import free_ports, holder, is_free
from infra.processes import marked
from infra.services import ORDER, check_port, environment, make_service, stack_id
from infra.settings import Settings
from infra.stack import Endpoints, Stack

UP = """
import json, sys
from pathlib import Path
from infra.stack import Stack
said = []
ports = dict(zip(("prefect", "mlflow", "ray"), map(int, sys.argv[2:])))
Stack(Path(sys.argv[1])).up(ports, lambda name, state, seconds: said.append((name, state)))
print(json.dumps(said))
"""
DOWN = "import sys; from pathlib import Path; from infra.stack import Stack; print(Stack(Path(sys.argv[1])).down())"


def run(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with a stack that another process, now gone, has left running; its name is no plain word."""
    workspace = tmp_path_factory.mktemp("up") / "my work? 100%"
    try:
        said = json.loads(run(UP, workspace, *free_ports(3)))
        assert said[:3] == [[name, "starting"] for name in ORDER]
        assert sorted(said[3:]) == sorted([name, "ready"] for name in ORDER)
        yield workspace
    finally:
        run(DOWN, workspace)


@pytest.fixture(scope="module")
def endpoints(up: Path) -> Endpoints:
    return Stack(up).status().endpoints


def checks(workspace: Path) -> dict[str, Check]:
    return {check.name: check for check in doctor(Settings.from_env(workspace=workspace))}


def test_all_services_are_healthy_and_found_by_another_process(up: Path) -> None:
    status = Stack(up).status()
    assert (status.mode, [service.name for service in status.services]) == ("up", list(ORDER))
    assert all(service.healthy for service in status.services), status
    assert status.started is not None and 0 < time.time() - status.started < 600
    assert {Path(service.log).parent for service in status.services} == {up / "logs"}


def test_everything_listens_on_the_loopback_only(up: Path) -> None:
    ours = {process.pid for process in marked(stack_id(up))}
    listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid in ours]
    assert len(listening) >= 5
    assert {connection.laddr[0] for connection in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_prefect_s_page_asks_the_server_that_it_came_from(endpoints: Endpoints) -> None:
    root = str(endpoints.prefect_api_url).removesuffix("/api")
    assert "<div id=" in httpx.get(root, follow_redirects=True).text
    assert httpx.get(f"{root}/ui-settings").json()["api_url"] == "/api"
    assert httpx.post(f"{root}/api/flow_runs/count", json={}).json() == 0


def test_mlflow_keeps_runs_and_files_in_the_workspace(up: Path, endpoints: Endpoints, tmp_path: Path) -> None:
    uri = str(endpoints.mlflow_tracking_uri)
    client = mlflow.MlflowClient(tracking_uri=uri)
    run_id = client.create_run(client.create_experiment("kept")).info.run_id
    client.log_metric(run_id, "loss", 0.5)
    (tmp_path / "note.txt").write_text("kept too")
    client.log_artifact(run_id, str(tmp_path / "note.txt"))
    assert [path.read_text() for path in (up / "db" / "mlflow-artifacts").rglob("note.txt")] == ["kept too"]
    assert (up / "db" / "mlflow.db").stat().st_size > 0
    assert "<div id=" in httpx.get(uri).text


def test_nothing_reports_home(up: Path) -> None:
    variables = environment(up, make_service("mlflow", up, 1))
    assert variables["DO_NOT_TRACK"] == "1" and variables["MLFLOW_DISABLE_TELEMETRY"] == "true"
    for process in marked(stack_id(up)):
        assert process.environ()["DO_NOT_TRACK"] == "1"


def test_a_second_stack_of_the_workspace_is_refused(up: Path) -> None:
    with pytest.raises(ServiceError, match=r"run already \(up, process \d+\).*ratchet down"):
        Stack(up).up()


def test_doctor_sees_the_stack(up: Path) -> None:
    found = checks(up)
    for name in ORDER:
        assert found[name].ok and "answers" in found[name].found
    assert found["mlflow database"].ok and found["packages"].ok, found["packages"]


def test_a_service_that_dies_is_started_again_and_down_leaves_nothing(up: Path) -> None:
    """The last test of this stack: `down` comes from a process of its own."""
    before = {service.name: service for service in Stack(up).status().services}
    deadline = time.monotonic() + 20  # younger than this it would not be started again
    while time.time() - psutil.Process(before["mlflow"].pid).create_time() < 21 and time.monotonic() < deadline:
        time.sleep(0.5)
    psutil.Process(before["mlflow"].pid).kill()
    deadline = time.monotonic() + 120
    while True:
        now = {service.name: service for service in Stack(up).status().services}
        if now["mlflow"].pid != before["mlflow"].pid and now["mlflow"].healthy:
            break
        assert time.monotonic() < deadline, now
        time.sleep(0.5)
    assert now["mlflow"].url == before["mlflow"].url and now["ray"].pid == before["ray"].pid
    assert run(DOWN, up) == "True"
    assert marked(stack_id(up)) == [] and not psutil.pid_exists(before["ray"].pid)
    assert Stack(up).status().mode == "down" and not (up / "stack.json").exists()
    assert run(DOWN, up) == "False"


# Embedded, small.


def test_embedded_services_start_one_after_another_and_end_with_their_block(workspace: Path) -> None:
    with Stack(workspace) as stack:
        assert stack.start(iter(["mlflow"])).mlflow_tracking_uri == stack.endpoints.mlflow_tracking_uri
        assert stack.start({"mlflow"}) == Endpoints(mlflow_tracking_uri=stack.endpoints.mlflow_tracking_uri)
        assert httpx.get(f"{stack.endpoints.mlflow_tracking_uri}/health").status_code == 200
        status = Stack(workspace).status()
        assert (status.mode, len(status.services)) == ("embedded", 1)
        with pytest.raises(ServiceError, match=rf"belong to a run: process {os.getpid()} .*Ctrl-C"):
            Stack(workspace).down()
    assert marked(stack_id(workspace)) == []
    assert Stack(workspace).status().mode == "down"


def test_a_service_that_ends_while_starting_shows_the_end_of_its_log(workspace: Path) -> None:
    with taken_port() as port, Stack(workspace) as stack:
        with pytest.raises(ServiceError) as caught:
            stack.start({"mlflow"}, {"mlflow": port})
        assert "mlflow ended with" in caught.value.message and "address already in use" in caught.value.message
        assert str(workspace / "logs" / "mlflow.log") in caught.value.remedy
        assert marked(stack_id(workspace)) == []


# What is refused before anything starts.


def test_a_port_in_use_is_named_with_its_holder(workspace: Path) -> None:
    with taken_port() as port:
        with pytest.raises(
            ServiceError, match=rf"port {port} for mlflow is in use by process {os.getpid()} .*mlflow-port"
        ):
            Stack(workspace).up({"mlflow": port, "prefect": free_ports(1)[0]})
        assert not is_free(port) and str(os.getpid()) in holder(port)
        with pytest.raises(ServiceError):
            check_port("ray", port)
    assert not (workspace / "stack.json").exists()


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50 and all(map(is_free, ports))


def test_no_such_service(workspace: Path) -> None:
    with pytest.raises(InputError, match=r"no such service: 'rya'.*prefect, mlflow, ray"), Stack(workspace) as stack:
        stack.start({"rya"})


def test_a_damaged_database(workspace: Path) -> None:
    path = workspace / "db" / "mlflow.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(ServiceError, match=rf"{path} is damaged.*mv {path}.*safe"), Stack(workspace) as stack:
        stack.start({"mlflow"})
    assert not checks(workspace)["mlflow database"].ok


def test_a_workspace_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match=r"the workspace .* cannot be written: .*--workspace"):
        Stack(tmp_path / "file" / "workspace").start({"mlflow"})


def test_variables_of_other_servers_do_not_reach_ours(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
        monkeypatch.setenv(name, "http://elsewhere:1")
    for name in ORDER:
        assert "http://elsewhere:1" not in environment(workspace, make_service(name, workspace, 1)).values()


def test_doctor_names_what_is_missing(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("PATH", str(workspace))
    found = checks(workspace)
    assert not found["RAY_ADDRESS"].ok and "unset RAY_ADDRESS" in found["RAY_ADDRESS"].remedy
    for name in ("sandbox", "gpu", "browser"):
        assert not found[name].ok and not found[name].needed and found[name].remedy
    for name in ("python", "packages", "cores", "workspace", "store", "stack"):
        assert name in found and found[name].needed
    assert found["workspace"].ok and not workspace.exists()
