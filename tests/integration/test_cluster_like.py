"""Services that stay, a store on S3, and a worker that runs the scheduled deployment to its verdict."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient

from infra.artifacts import list_artifacts
from infra.ports import free_ports
from infra.storage import Storage
from tests.environment import bare_environment
from tests.s3_server import BUCKET, S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
BIN = Path(sys.executable).parent
TURN_S = 1200
STORE = f"s3://{BUCKET}/wheel"
UNDER_WAY = ("SCHEDULED", "PENDING", "RUNNING")


@pytest.fixture(scope="module")
def variables(s3_server: S3Server) -> dict[str, str]:
    return {**bare_environment("AWS_"), **s3_server.variables(), "RATCHET_STORE": STORE}


@pytest.fixture(scope="module")
def services(variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """`ratchet up` in a workspace of its own; the variables of whoever uses it."""
    workspace = tmp_path_factory.mktemp("services") / "workspace"
    mine = {**variables, "RATCHET_WORKSPACE": str(workspace)}
    ports = [f"--{name}-port={port}" for name, port in zip(("prefect", "mlflow", "ray"), free_ports(3), strict=True)]
    try:
        document = ratchet(mine, "up", *ports)
        yield {**mine, "PREFECT_API_URL": document["prefect_api_url"], "PREFECT_HOME": str(workspace / "worker")}
    finally:
        ratchet(mine, "down")


def ratchet(variables: dict[str, str], *arguments: str) -> Any:
    done = subprocess.run([BIN / "ratchet", *arguments, "--json"], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def digests(store: Storage) -> dict[str, str]:
    """Of every artifact but reports, which carry times."""
    return {item.fingerprint: item.manifest().sha256() for item in list_artifacts(store) if item.kind != "report"}


def test_a_scheduled_deployment_turns_the_wheel_on_s3(services, turned, monkeypatch, tmp_path):
    """Everything has the same bytes as in the embedded run on a local folder."""
    registered = ratchet(services, "deploy", "--preset", "tiny", "--cron", "0 3 * * *")
    api = services["PREFECT_API_URL"]
    with (tmp_path / "worker.log").open("wb") as log:
        command = [BIN / "prefect", "worker", "start", "--pool", registered["pool"]]
        worker = subprocess.Popen(command, cwd=tmp_path, env=services, stdout=log, stderr=log)
        try:
            scheduled = {"state": {"type": "SCHEDULED"}}
            run = httpx.post(f"{api}/deployments/{registered['id']}/create_flow_run", json=scheduled).json()["id"]
            deadline = time.monotonic() + TURN_S
            while (state := httpx.get(f"{api}/flow_runs/{run}").json()["state_type"]) in UNDER_WAY:
                assert time.monotonic() < deadline and worker.poll() is None, state
                time.sleep(2)
        finally:
            worker.send_signal(signal.SIGINT)
            worker.wait(60)
    assert state == "COMPLETED", (tmp_path / "worker.log").read_text()[-4000:]

    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, services[name])
    there, here = digests(Storage.open(STORE)), digests(Storage.open(turned.workspace / "store"))
    made = {stage["artifact"].rpartition("/")[2] for name, stage in turned.stages.items() if name != "report"}
    assert {name: there.get(name) for name in made} == {name: here[name] for name in made}
    assert ratchet(services, "data", "verify")["bad"] == []

    client = MlflowClient(tracking_uri=ratchet(services, "status")["mlflow_tracking_uri"])
    candidate = client.get_model_version_by_alias("tiny", "candidate")
    assert candidate.tags["gate_verdict"] == turned.ended.document["iterations"][0]["verdict"]
    assert candidate.tags["uri"].startswith(STORE)
