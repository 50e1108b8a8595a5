"""Ray's job server over its documented REST API, every request bounded in time.

Ray's own client has no time limits (a stopped head would hang a flow for ever), lets RAY_ADDRESS override the address
that it is given, and takes most of a second to import.
"""

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx

from infra.errors import ServiceError

REQUEST_S = 10.0
"""Seconds until a request counts as failed. A job's whole log travels in one answer, hence not less."""
CONNECT_S = 3.0


class Unreachable(ServiceError):
    """No answer, or one that says that the server cannot do its work now; it may be gone or just starting."""


class UnknownJob(ServiceError):
    """The server answers and has never heard of this submission id."""


class LogUnreadable(ServiceError):
    """Ray reads a log as UTF-8, and this one holds other bytes, or was cut within a character just now."""


@dataclass(frozen=True)
class Job:
    """What Ray says of one attempt. `status`: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""

    submission_id: str
    status: str
    message: str
    exit_code: int | None
    metadata: dict[str, str]

    @property
    def live(self) -> bool:
        return self.status in ("PENDING", "RUNNING")

    @staticmethod
    def from_answer(values: dict[str, Any]) -> "Job":
        return Job(
            submission_id=values["submission_id"],
            status=values["status"],
            message=values.get("message") or "",
            exit_code=values.get("driver_exit_code"),
            metadata=values.get("metadata") or {},
        )


class JobServer:
    """The job server at `address`, such as http://127.0.0.1:8265. May be shared by threads."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._http = httpx.Client(
            base_url=self.address,
            headers=authorization(),
            timeout=httpx.Timeout(REQUEST_S, connect=CONNECT_S),
            trust_env=not is_loopback(httpx.URL(self.address).host),  # a proxy cannot reach this machine's loopback
        )

    def version(self) -> str:
        """Ray's version."""
        return str(self._request("GET", "/api/version").json()["ray_version"])

    def jobs(self) -> list[Job]:
        """Every submitted job that the cluster remembers."""
        answers = self._request("GET", "/api/jobs/").json()
        return [Job.from_answer(values) for values in answers if values.get("submission_id")]

    def job(self, submission_id: str) -> Job:
        return Job.from_answer(self._request("GET", f"/api/jobs/{submission_id}").json())

    def log(self, submission_id: str) -> str:
        """All that the driver has printed so far, after some lines of Ray's own. Raises LogUnreadable."""
        try:
            return str(self._request("GET", f"/api/jobs/{submission_id}/logs").json()["logs"])
        except Unreachable as error:
            if "UnicodeDecodeError" in error.message:
                raise LogUnreadable(f"the log of {submission_id} is not UTF-8: {error.message}") from error
            raise

    def submit(self, body: dict[str, Any]) -> None:
        self._request("POST", "/api/jobs/", json=body)

    def stop(self, submission_id: str) -> None:
        """Ask for it; Ray sends TERM, and KILL three seconds later."""
        self._request("POST", f"/api/jobs/{submission_id}/stop")

    def _request(self, method: str, path: str, **extra: Any) -> httpx.Response:
        """Raises Unreachable, UnknownJob, or ServiceError with what the server said."""
        remedy = "start it (`ratchet up`) or correct RAY_ADDRESS"
        try:
            answer = self._http.request(method, path, **extra)
        except httpx.InvalidURL as error:
            raise ServiceError(f"{self.address!r} is no URL: {error}", "correct RAY_ADDRESS") from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"Ray's job server at {self.address} does not answer: {reason}", remedy) from error
        said = f"Ray's job server at {self.address} answered {answer.status_code} to {method} {path}"
        if answer.status_code in (401, 403):
            raise ServiceError(said, "give its token: RAY_AUTH_MODE=token with RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH")
        if answer.status_code == 404 and "does not exist" in answer.text:
            raise UnknownJob(f"{said}: {answer.text}", remedy)
        if answer.status_code >= 500:
            raise Unreachable(f"{said}: {last_line(answer.text)}", remedy)
        if answer.status_code >= 400 or "json" not in answer.headers.get("content-type", ""):
            raise ServiceError(f"{said}: {last_line(answer.text)}", "RAY_ADDRESS must be the URL of Ray's job server")
        return answer


def authorization() -> dict[str, str]:
    """The header for clusters with token authentication; Ray's own variables and file say the token."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return {}
    token = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    if not token and not path.is_file():
        raise ServiceError(
            f"RAY_AUTH_MODE is token, but RAY_AUTH_TOKEN is empty and there is no file {path}",
            "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH",
        )
    return {"Authorization": f"Bearer {token or path.read_text().strip()}"}


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def last_line(text: str) -> str:
    """The line of a traceback that says what happened."""
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 1]
    return lines[-1][:500] if lines else "(nothing)"
