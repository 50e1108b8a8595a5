"""Kill -9 of everything in turn: the run that owns the services, their supervisor, the Ray head."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.errors import ClusterLost, ServiceError
from infra.jobs import JobRequest, connect, follow, submit
from infra.ports import free_ports
from infra.processes import end_marked, is_alive, marked
from infra.ray_api import JobServer
from infra.services import environment, make_service, stack_id
from infra.stack import Stack

pytestmark = pytest.mark.slow

OWNER = """
import sys, time
from pathlib import Path
from infra.stack import Stack
stack = Stack(Path(sys.argv[1]))
print(stack.start(sys.argv[2:]), flush=True)
print(stack.endpoints.ray_address, flush=True)
time.sleep(600)
"""
WRITER = """
import sys, time
from pathlib import Path
from infra.watchdog import start_watchdog
start_watchdog()
for number in range(100000):
    Path(sys.argv[1]).write_text(str(number))
    time.sleep(0.05)
"""
GONE_S = 30.0


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "workspace"
    end_marked(stack_id(tmp_path / "workspace"))


def start_owner(workspace: Path, *services: str) -> tuple[subprocess.Popen, str]:
    """A process that owns an embedded stack, and the address of its Ray."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, workspace, *services], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None and "Endpoints" in owner.stdout.readline()
    return owner, owner.stdout.readline().strip()


def start_writer(client: JobServer, tmp_path: Path) -> Path:
    """A job that writes a number into the returned file twenty times a second; returns once it does."""
    script, target = tmp_path / "writer.py", tmp_path / "number"
    script.write_text(WRITER)
    submit(client, JobRequest("writer", f"exec {sys.executable} -P {script} {target}", 1))
    deadline = time.monotonic() + 60
    while not target.exists():
        assert time.monotonic() < deadline, client.jobs()
        time.sleep(0.1)
    return target


def seconds_until_quiet(target: Path) -> float:
    """When, from now, the file was last written; it has been quiet for three seconds when this returns."""
    started, last, changed = time.monotonic(), target.read_text(), 0.0
    while (now := time.monotonic() - started) - changed < 3:
        assert now < 60, "the driver still writes"
        if (text := target.read_text()) != last:
            last, changed = text, now
        time.sleep(0.05)
    return changed


def child_named(process: int, name: str) -> psutil.Process:
    return next(each for each in psutil.Process(process).children(recursive=True) if each.name() == name)


def wait_gone(workspace: Path) -> None:
    deadline = time.monotonic() + GONE_S
    while left := marked(stack_id(workspace)):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def test_kill_of_the_owner_takes_services_and_drivers_down(workspace: Path, tmp_path: Path) -> None:
    owner, address = start_owner(workspace, "mlflow", "ray")
    target = start_writer(connect(address), tmp_path)
    supervisor = Stack(workspace).status().pid
    processes = marked(stack_id(workspace))
    assert len(processes) > 10 and supervisor is not None

    owner.kill()
    owner.wait()
    seconds_until_quiet(target)
    wait_gone(workspace)
    assert not any(map(is_alive, processes))
    deadline = time.monotonic() + GONE_S
    while psutil.pid_exists(supervisor) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert Stack(workspace).status().mode == "down" and not (workspace / "stack.json").exists()


def test_kill_of_the_supervisor_takes_services_down_and_the_owner_can_go_on(workspace: Path) -> None:
    with Stack(workspace) as stack:
        first = stack.start({"mlflow"})
        processes = marked(stack_id(workspace))
        processes[0].suspend()  # deaf to the signal that it gets when its parent dies, so the guard must do it
        os.kill(int(Stack(workspace).status().pid or 0), signal.SIGKILL)
        wait_gone(workspace)
        assert processes and not any(map(is_alive, processes))
        second = stack.start({"mlflow"})
        assert second != first
        assert [service.healthy for service in Stack(workspace).status().services] == [True]


def test_kill_of_owner_and_supervisor_at_once(workspace: Path) -> None:
    owner, _ = start_owner(workspace, "mlflow")
    supervisor = Stack(workspace).status().pid
    os.kill(int(supervisor or 0), signal.SIGKILL)
    owner.kill()
    owner.wait()
    wait_gone(workspace)


def test_a_stack_that_nobody_took_down_is_gone_before_the_next_one_starts(workspace: Path) -> None:
    """Supervisor and guard killed together: the next start ends what they left."""
    owner, _ = start_owner(workspace, "mlflow")
    supervisor = psutil.Process(int(Stack(workspace).status().pid or 0))
    guards = [child for child in supervisor.children() if "infra.supervisor" in child.cmdline()]
    assert len(guards) == 1
    orphan = psutil.Process(Stack(workspace).status().services[0].pid)
    orphan.suspend()  # deaf to the signal that it gets when its parent dies
    for process in (*guards, supervisor):
        process.kill()
    owner.kill()
    owner.wait()
    orphan.suspend()
    with Stack(workspace) as stack:
        stack.start({"mlflow"})
        assert not is_alive(orphan)


def test_a_run_that_was_just_killed_does_not_hinder_the_next(workspace: Path) -> None:
    """The next one waits for the dying services, which hold the databases."""
    owner, _ = start_owner(workspace, "mlflow")
    owner.kill()
    with Stack(workspace) as stack:
        stack.start({"mlflow"})
    owner.wait()


def test_kill_of_the_head_stops_the_writer_and_is_noticed(workspace: Path, tmp_path: Path) -> None:
    """The raylet, the job's supervisor and Ray's own watcher live on, as on another node of a cluster."""
    service = make_service("ray", workspace, free_ports(1)[0])
    with service.log.open("ab") as log:
        head = subprocess.Popen(
            service.command,
            cwd=service.folder,
            env=environment(workspace, service),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    client = connect(service.url, wait_s=120)
    target = start_writer(client, tmp_path)
    ends: list[Exception] = []

    def watch() -> None:
        try:
            list(follow(client, "writer-a1"))
        except ServiceError as error:
            ends.append(error)

    follower = threading.Thread(target=watch)
    follower.start()
    time.sleep(1)
    raylet = child_named(head.pid, "raylet")
    gcs = child_named(head.pid, "gcs_server")
    head.send_signal(signal.SIGSTOP)  # else it would end the raylet too
    gcs.kill()
    assert seconds_until_quiet(target) < 15
    assert is_alive(raylet), "nothing but the watchdog was to end the driver"
    follower.join(90)
    assert len(ends) == 1 and isinstance(ends[0], ClusterLost), ends
    assert "no Ray head for 2" in ends[0].message and "ratchet up" in ends[0].remedy


def test_a_head_that_came_back_does_not_know_the_job(workspace: Path, tmp_path: Path) -> None:
    """GCS killed under a stack that stays: Ray is started again on the same port, and says so of the old job."""
    stack = Stack(workspace)
    try:
        stack.up(dict(zip(("prefect", "mlflow", "ray"), free_ports(3), strict=True)))
        ray = next(service for service in stack.status().services if service.name == "ray")
        client = connect(ray.url)
        target = start_writer(client, tmp_path)
        while time.time() - psutil.Process(ray.pid).create_time() < 21:  # else it counts as one that cannot start
            time.sleep(0.5)
        child_named(ray.pid, "gcs_server").kill()
        with pytest.raises(ClusterLost):
            list(follow(client, "writer-a1"))
        assert seconds_until_quiet(target) == 0.0
        deadline = time.monotonic() + 120
        while not all(service.healthy for service in Stack(workspace).status().services):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert submit(client, JobRequest("writer", "exec true", 1)) == "writer-a1"
    finally:
        Stack(workspace).down()
    assert marked(stack_id(workspace)) == []


def test_a_server_that_took_the_request_and_says_nothing(tmp_path: Path) -> None:
    """A stopped head: Ray's own client would wait for ever."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(ClusterLost):
            list(follow(JobServer(f"http://127.0.0.1:{silent.getsockname()[1]}"), "x-a1"))
        assert time.monotonic() - started < 60, json.dumps(str(tmp_path))
