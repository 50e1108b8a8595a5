"""One Ray job per chain of stages: look up, submit or attach, follow, stop.

A job's submission id is `<base id>-a<attempt>`, and the base id says what is made, so that whoever asks for the same
thing finds the job that already makes it.

    client = connect(address)
    for event in follow(client, submit(client, request)):
        ...                                        # State, Line, Structured, and at the end one Finished
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.errors import ClusterLost, InputError, ServiceError
from infra.ray_api import Job, JobServer, LogUnreadable, UnknownJob, Unreachable

LOST_AFTER_S = 20.0
"""Seconds without an answer after which the head counts as lost."""
START_S = 60.0
"""Seconds that a cluster which has just started may need until it takes jobs."""
EVENT_PREFIX = "@event "
DRIVER_STARTS = "Running entrypoint for job "
"""Ray's own last line in a job's log before the driver's first."""
LAST_LINES = 10


@dataclass(frozen=True)
class JobRequest:
    """What Ray shall run. Start `entrypoint` with `exec`, so that no shell stands between Ray and the driver."""

    base_id: str
    entrypoint: str
    cpus: float
    gpus: float = 0
    env: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    """A URI that Ray's nodes can fetch (such as s3://bucket/code.zip); None runs what is installed there."""

    def __post_init__(self) -> None:
        if self.working_dir is not None and "://" not in self.working_dir:
            raise InputError(f"working_dir is {self.working_dir!r}, no URI", "upload it, and give its s3:// address")

    def body(self, submission_id: str) -> dict[str, Any]:
        runtime: dict[str, Any] = {"env_vars": self.env}
        if self.working_dir is not None:
            runtime["working_dir"] = self.working_dir
        return {
            "submission_id": submission_id,
            "entrypoint": self.entrypoint,
            "entrypoint_num_cpus": self.cpus,
            "entrypoint_num_gpus": self.gpus,
            "runtime_env": runtime,
            "metadata": self.metadata,
        }


# What follow() yields.


@dataclass(frozen=True)
class State:
    """The job's status changed; `message` says what it waits for."""

    status: str
    message: str


@dataclass(frozen=True)
class Line:
    """One line that the driver printed."""

    text: str


@dataclass(frozen=True)
class Structured:
    """One `@event {json}` line that the driver printed."""

    values: dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """The end: SUCCEEDED, FAILED or STOPPED. `exit_code` is negative for a signal, None where Ray does not know."""

    status: str
    message: str
    exit_code: int | None
    last_lines: tuple[str, ...]


Event = State | Line | Structured | Finished


# Which attempt to follow.


@dataclass(frozen=True)
class Attach:
    submission_id: str


@dataclass(frozen=True)
class Submit:
    submission_id: str


def attempt_of(submission_id: str) -> int:
    return int(submission_id.rpartition("-a")[2])


def decide(base_id: str, past: Sequence[Job]) -> Attach | Submit:
    """Attach to the newest attempt while it lives, else make the next one.

    Whoever asks has seen that the artifact is missing, so one that SUCCEEDED does not count either.
    """
    if past and past[-1].live:
        return Attach(past[-1].submission_id)
    return Submit(f"{base_id}-a{attempt_of(past[-1].submission_id) + 1 if past else 1}")


def connect(address: str, wait_s: float = 3.0) -> JobServer:
    """The job server at `address`. Raises ServiceError when it does not answer within `wait_s` seconds."""
    server = JobServer(address)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            server.version()
            return server
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def lookup(client: JobServer, base_id: str) -> list[Job]:
    """Past attempts, oldest first."""
    name = re.compile(re.escape(base_id) + r"-a\d+")
    found = [job for job in client.jobs() if name.fullmatch(job.submission_id)]
    return sorted(found, key=lambda job: attempt_of(job.submission_id))


def submit(client: JobServer, request: JobRequest, wait_s: float = START_S) -> str:
    """The submission id to follow: that of the live attempt, or of a new one.

    Raises Unreachable (a ServiceError) when the cluster takes no jobs within `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            step = decide(request.base_id, lookup(client, request.base_id))
            if isinstance(step, Submit):
                client.submit(request.body(step.submission_id))
            return step.submission_id
        except ServiceError as error:
            if "already exists" in error.message:  # another flow was quicker, or our own request whose answer got lost
                continue
            if not isinstance(error, Unreachable) or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def stop(client: JobServer, submission_id: str, wait_s: float = 15.0) -> None:
    """Stop the job and wait until its driver is gone; one that has ended is left as it is.

    Raises ServiceError when it still lives after `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    client.stop(submission_id)
    while (job := client.job(submission_id)).live:
        if time.monotonic() > deadline:
            raise ServiceError(
                f"job {submission_id} is still {job.status} {wait_s:.0f} s after it was told to stop",
                f"look at it on {client.address}",
            )
        time.sleep(0.2)


# Following.


class LogLines:
    """Cuts a growing log into its new lines: each once, in order, without Ray's lines above the driver's."""

    def __init__(self) -> None:
        self._seen = 0
        self._driver = False

    def new(self, log: str, whole: bool) -> list[str]:
        """Lines that this fetch completes; `whole` says that nothing more will be written, so a last stump counts."""
        end = len(log) if whole else log.rfind("\n") + 1
        fresh, self._seen = log[self._seen : end], max(self._seen, end)
        lines = fresh.removesuffix("\n").split("\n") if fresh else []
        if not self._driver:
            starts = [index for index, line in enumerate(lines) if line.startswith(DRIVER_STARTS)]
            self._driver = bool(starts)
            lines = lines[starts[0] + 1 :] if starts else []
        return lines


class Patience:
    """Turns failed polls into ClusterLost: at once when the job is unknown, else after `LOST_AFTER_S` seconds."""

    def __init__(self, submission_id: str) -> None:
        self.submission_id = submission_id
        self._since: float | None = None

    def answered(self) -> None:
        self._since = None

    def failed(self, error: ServiceError, now: float) -> None:
        remedy = "what was finished is kept: start Ray again (`ratchet up`), then give the same command"
        if isinstance(error, UnknownJob):
            raise ClusterLost(f"job {self.submission_id} is gone: the Ray head came back without it", remedy) from error
        if not isinstance(error, Unreachable):
            raise error
        self._since = now if self._since is None else self._since
        if now - self._since >= LOST_AFTER_S:
            lost = f"job {self.submission_id}: no Ray head for {now - self._since:.0f} s"
            raise ClusterLost(f"{lost}: {error.message}", remedy) from error


def parse(line: str) -> Line | Structured:
    """A driver's line; one that starts like an event and is none stays a line."""
    if line.startswith(EVENT_PREFIX):
        try:
            values = json.loads(line.removeprefix(EVENT_PREFIX))
        except json.JSONDecodeError:
            return Line(line)
        if isinstance(values, dict):
            return Structured(values)
    return Line(line)


def status_interval(age_s: float, poll_s: float) -> float:
    """Seconds between polls: quick at first, when a job may end any moment, then once a second."""
    return min(1.0, poll_s + age_s / 30)


def log_interval(characters: int) -> float:
    """Seconds between fetches of a log that long: it comes whole each time, so that is at most about 4 MB/s."""
    return characters / 4e6


def poll(client: JobServer, submission_id: str, with_log: bool) -> tuple[Job, str | None]:
    """The job, and its log where asked for or where it has ended; None also for one that Ray cannot read."""
    job = client.job(submission_id)
    try:
        return job, client.log(submission_id) if with_log or not job.live else None
    except LogUnreadable:
        return job, None


def follow(client: JobServer, submission_id: str, poll_s: float = 0.25) -> Iterator[Event]:
    """Everything that happens in the job until it ends, from its first line on.

    Only the polled status says whether it runs. Raises ClusterLost when the head is lost or came back without the job.
    """
    started = time.monotonic()
    patience, log, status, tail, next_log = Patience(submission_id), LogLines(), "", [""] * 0, 0.0
    while True:
        now = time.monotonic()
        try:
            job, text = poll(client, submission_id, with_log=now >= next_log)
            patience.answered()
        except ServiceError as error:
            patience.failed(error, now)
            time.sleep(1.0)
            continue
        if job.status != status:
            status = job.status
            yield State(status, job.message)
        if text is not None:
            next_log = now + log_interval(len(text))
            lines = log.new(text, whole=not job.live)
            tail = [*tail, *lines][-LAST_LINES:]
            yield from map(parse, lines)
        if not job.live:
            if text is None:
                yield Line(f"(Ray cannot read the log of {submission_id}: it is not UTF-8)")
            yield Finished(status, job.message, job.exit_code, tuple(tail))
            return
        time.sleep(status_interval(now - started, poll_s))
