"""The workspace lock between real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import ServiceError
from infra.lock import FileLock, workspace_lock

HOLD = """
import sys, time
from pathlib import Path
from infra.lock import workspace_lock
with workspace_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "hold it.py"
    path.write_text(HOLD)
    return path


def hold(script: Path, workspace: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, script, workspace], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_run_learns_who_the_first_is(script: Path, workspace: Path) -> None:
    owner = hold(script, workspace)
    try:
        with pytest.raises(ServiceError) as caught, workspace_lock(workspace):
            pytest.fail("two owners")
    finally:
        owner.kill()
        owner.wait()
    message = caught.value.message
    assert f"{workspace} is in use by process {owner.pid} ('hold it.py' {workspace}) since 20" in message
    assert "--workspace" in caught.value.remedy


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_is_free_as_soon_as_its_owner_is_gone(script: Path, workspace: Path, number: signal.Signals) -> None:
    owner = hold(script, workspace)
    owner.send_signal(number)
    owner.wait()
    with workspace_lock(workspace):
        assert FileLock(workspace / "run.lock").owner()["pid"] == os.getpid()


def test_it_is_free_after_the_block_also_after_an_error(workspace: Path) -> None:
    with pytest.raises(KeyError), workspace_lock(workspace):
        raise KeyError("inside")
    with workspace_lock(workspace):
        pass


def test_a_process_excludes_itself_too(workspace: Path) -> None:
    with workspace_lock(workspace), pytest.raises(ServiceError, match=f"process {os.getpid()}"):
        with workspace_lock(workspace):
            pytest.fail("two owners")


def test_programs_that_the_owner_starts_do_not_keep_it(workspace: Path) -> None:
    with workspace_lock(workspace):
        child = subprocess.Popen(["sleep", "600"])
    try:
        with workspace_lock(workspace):
            pass
    finally:
        child.kill()
        child.wait()


def test_held_or_not(workspace: Path) -> None:
    lock = FileLock(workspace / "some.lock")
    assert not lock.is_held()
    assert lock.acquire({"name": "me"})
    assert FileLock(lock.path).is_held() and FileLock(lock.path).owner() == {"name": "me"}
    assert not FileLock(lock.path).acquire()
    lock.release()
    assert not lock.is_held()


def test_a_workspace_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ServiceError, match=r"cannot write .*run.lock: .*--workspace"),
        workspace_lock(tmp_path / "file"),
    ):
        pytest.fail("locked a file")
