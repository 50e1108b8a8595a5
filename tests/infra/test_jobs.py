"""Jobs on a real Ray, and the decisions behind them as tables."""

import http.server
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import jobs
from infra.errors import ClusterLost, InputError, ServiceError
from infra.jobs import (
    Attach,
    Finished,
    JobRequest,
    Line,
    LogLines,
    Patience,
    State,
    Structured,
    Submit,
    connect,
    decide,
    follow,
    lookup,
    parse,
    stop,
    submit,
)
from infra.ports import free_ports
from infra.ray_api import Job, JobServer, UnknownJob, Unreachable
from infra.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("jobs")) as running:
        running.start({"ray"})
        yield running


@pytest.fixture(scope="module")
def cluster(stack: Stack) -> JobServer:
    return connect(str(stack.endpoints.ray_address))


def python(script: Path, text: str) -> str:
    """Entry point that runs `text`."""
    script.write_text(text)
    return f"exec {sys.executable} -P {script}"


def wait_running(client: JobServer, submission_id: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while client.job(submission_id).status == "PENDING":
        assert time.monotonic() < deadline, client.job(submission_id)
        time.sleep(0.1)


# Decisions.


def past(*statuses: str) -> list[Job]:
    return [Job(f"x-a{number}", status, "", None, {}) for number, status in enumerate(statuses, 1)]


@pytest.mark.parametrize(
    ("statuses", "decision"),
    [
        ((), Submit("x-a1")),
        (("PENDING",), Attach("x-a1")),
        (("RUNNING",), Attach("x-a1")),
        (("FAILED",), Submit("x-a2")),
        (("STOPPED",), Submit("x-a2")),
        (("SUCCEEDED",), Submit("x-a2")),  # whoever asks has seen that there is no artifact
        (("FAILED", "STOPPED", "RUNNING"), Attach("x-a3")),
        (("FAILED",) * 11, Submit("x-a12")),
    ],
)
def test_decide(statuses: tuple[str, ...], decision: Attach | Submit) -> None:
    assert decide("x", past(*statuses)) == decision


def test_decide_goes_on_from_the_highest_number_that_the_cluster_remembers() -> None:
    assert decide("x", [Job("x-a7", "FAILED", "", 1, {})]) == Submit("x-a8")


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ('@event {"event": "made", "n": 3}', Structured({"event": "made", "n": 3})),
        ("plain", Line("plain")),
        ("", Line("")),
        ("@event {broken", Line("@event {broken")),
        ("@event [1]", Line("@event [1]")),
        (' @event {"a": 1}', Line(' @event {"a": 1}')),
        ('@events {"a": 1}', Line('@events {"a": 1}')),
    ],
)
def test_parse(line: str, event: Line | Structured) -> None:
    assert parse(line) == event


HEAD = "2026 Runtime env is setting up.\nRunning entrypoint for job x-a1: exec python\n"


@pytest.mark.parametrize("cut", range(1, len(HEAD) + len("one\ntwo\n\nlast")))
def test_lines_come_once_and_in_order_wherever_a_fetch_cuts_the_log(cut: int) -> None:
    log, reader = HEAD + "one\ntwo\n\nlast", LogLines()
    assert reader.new(log[:cut], False) + reader.new(log[:cut], False) + reader.new(log, True) == [
        "one",
        "two",
        "",
        "last",
    ]


def test_a_line_that_is_not_finished_waits_for_its_end() -> None:
    reader = LogLines()
    assert reader.new(HEAD + "one\ntw", False) == ["one"]
    assert reader.new(HEAD + "one\ntwo\n", False) == ["two"]
    assert reader.new(HEAD + "one\ntwo\n", True) == []


def test_ray_s_own_lines_are_no_driver_s() -> None:
    assert LogLines().new("2026 Runtime env is setting up.\nfailed\n", True) == []


def test_patience() -> None:
    patience = Patience("x-a1")
    patience.failed(Unreachable("no answer"), 100.0)
    patience.failed(Unreachable("no answer"), 100.0 + jobs.LOST_AFTER_S - 1)
    patience.answered()
    patience.failed(Unreachable("no answer"), 200.0)
    with pytest.raises(ClusterLost, match=r"x-a1: no Ray head for 20 s: no answer.*ratchet up"):
        patience.failed(Unreachable("no answer"), 200.0 + jobs.LOST_AFTER_S)
    with pytest.raises(ClusterLost, match="came back without it"):
        Patience("x-a1").failed(UnknownJob("404"), 0.0)
    with pytest.raises(ServiceError, match="needs a token"):
        Patience("x-a1").failed(ServiceError("needs a token"), 0.0)


def test_polling_gets_slower_with_the_job_s_age_and_its_log() -> None:
    assert jobs.status_interval(0, 0.25) == 0.25
    assert jobs.status_interval(3600, 0.25) == 1.0
    assert jobs.log_interval(100_000) < 0.1
    assert jobs.log_interval(40_000_000) == 10.0


def test_a_local_working_dir_is_refused() -> None:
    with pytest.raises(InputError, match="working_dir is 'src', no URI"):
        JobRequest("x", "true", 1, working_dir="src")


# Servers that are none.


def test_nobody_listens() -> None:
    address = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(ServiceError, match=rf"{address} does not answer.*ratchet up.*RAY_ADDRESS"):
        connect(address, wait_s=0.5)


def test_somebody_else_listens(tmp_path: Path) -> None:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ServiceError, match=r"answered 404 to GET /api/version.*RAY_ADDRESS"):
            connect(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_the_given_address_wins_over_the_environment(cluster: JobServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://192.0.2.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:1")
    assert connect(cluster.address).version().count(".") == 2


def test_token_of_a_protected_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ServiceError, match=r"no file .*token.*RAY_AUTH_TOKEN"):
        JobServer("http://127.0.0.1:1")


# On a real cluster.


def test_a_chatty_job_s_lines_come_exactly_once(cluster: JobServer, tmp_path: Path) -> None:
    text = """
import json, sys, time
for number in range(2000):
    if number % 100 == 7:
        print("@event", json.dumps({"event": "progress", "done": number}))
    sys.stdout.write(f"zeile {number} ä")
    if number % 50 == 0:
        sys.stdout.flush(); time.sleep(0.05)
    sys.stdout.write("\\n")
sys.stdout.write("stump")
"""
    submission = submit(cluster, JobRequest("chatty", python(tmp_path / "chatty.py", text), 1))
    assert submission == "chatty-a1"
    events = list(follow(cluster, submission, poll_s=0.05))
    assert [event.text for event in events if isinstance(event, Line)] == [
        *(f"zeile {number} ä" for number in range(2000)),
        "stump",
    ]
    progress = [event.values["done"] for event in events if isinstance(event, Structured)]
    assert progress == list(range(7, 2000, 100))
    states = [event.status for event in events if isinstance(event, State)]
    assert states[-1] == "SUCCEEDED" and states == sorted(set(states), key=states.index)
    assert isinstance(events[-1], Finished)
    assert events[-1].exit_code == 0 and events[-1].last_lines[-2:] == ("zeile 1999 ä", "stump")
    assert list(follow(cluster, submission))[1:] == [event for event in events if not isinstance(event, State)]


def test_environment_and_metadata(cluster: JobServer, tmp_path: Path) -> None:
    entrypoint = python(
        tmp_path / "env.py", "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['RAY_ADDRESS'])"
    )
    request = JobRequest("env", entrypoint, 2, env={"OMP_NUM_THREADS": "2"}, metadata={"job": "dialogues"})
    submission = submit(cluster, request)
    lines = [event.text for event in follow(cluster, submission) if isinstance(event, Line)]
    assert lines[0].startswith("2 127.0.0.1:")
    assert cluster.job(submission).metadata["job"] == "dialogues"


def test_attach_then_stop_then_next_attempt(cluster: JobServer, tmp_path: Path) -> None:
    """One job, seen by two flows; stopping it ends it for both, and the next request is a new attempt."""
    request = JobRequest("long", python(tmp_path / "long.py", "import time\nprint('up')\ntime.sleep(600)"), 1)
    first = submit(cluster, request)
    wait_running(cluster, first)
    assert submit(connect(cluster.address), request) == first
    assert len(lookup(cluster, "long")) == 1

    ends: list[Finished] = []
    followers = [
        threading.Thread(target=lambda: ends.extend(e for e in follow(cluster, first) if isinstance(e, Finished)))
        for _ in range(2)
    ]
    for follower in followers:
        follower.start()
    stop(cluster, first)
    assert cluster.job(first).status == "STOPPED"
    for follower in followers:
        follower.join(30)
    assert [end.status for end in ends] == ["STOPPED", "STOPPED"]
    stop(cluster, first)  # nothing to do

    second = submit(cluster, request)
    assert second == "long-a2"
    stop(cluster, second)
    assert [job.submission_id for job in lookup(cluster, "long")] == ["long-a1", "long-a2"]


def test_two_flows_at_once_make_one_job(cluster: JobServer) -> None:
    request, found = JobRequest("race", "exec sleep 600", 1), []
    threads = [threading.Thread(target=lambda: found.append(submit(cluster, request))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == ["race-a1"] * 4
    stop(cluster, "race-a1")


def test_a_failing_driver_says_how_it_ended(cluster: JobServer, tmp_path: Path) -> None:
    entrypoint = python(tmp_path / "fail.py", "print('before', flush=True)\nraise SystemExit('no such row: 7')")
    request = JobRequest("fail", entrypoint, 1)
    end = list(follow(cluster, submit(cluster, request)))[-1]
    assert isinstance(end, Finished)
    assert (end.status, end.exit_code, end.last_lines) == ("FAILED", 1, ("before", "no such row: 7"))
    assert "exit code 1" in end.message
    assert submit(cluster, request) == "fail-a2"
    stop(cluster, "fail-a2")


def test_a_killed_driver_is_a_failed_job(cluster: JobServer, tmp_path: Path) -> None:
    entrypoint = python(tmp_path / "pid.py", "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)")
    end = None
    for event in follow(cluster, submit(cluster, JobRequest("killed", entrypoint, 1))):
        if isinstance(event, Line):
            os.kill(int(event.text), signal.SIGKILL)
        end = event
    assert isinstance(end, Finished)
    assert (end.status, end.exit_code) == ("FAILED", -9)
    assert "exit code -9" in end.message


def test_an_unknown_job_is_a_lost_cluster(cluster: JobServer) -> None:
    with pytest.raises(ClusterLost, match="never-a1 is gone"):
        list(follow(cluster, "never-a1"))


def test_a_log_that_is_no_text_does_not_hide_the_end(cluster: JobServer, tmp_path: Path) -> None:
    entrypoint = python(tmp_path / "bytes.py", r"import os; os.write(1, b'good\n\xff\xfe\n')")
    events = list(follow(cluster, submit(cluster, JobRequest("bytes", entrypoint, 1))))
    said = [event.text for event in events if isinstance(event, Line)]
    assert len(said) == 1 and "is not UTF-8" in said[0]
    assert isinstance(events[-1], Finished) and events[-1].status == "SUCCEEDED"
