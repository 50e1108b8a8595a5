"""One `store` fixture over both kinds of store."""

import secrets
from pathlib import Path

import pytest

from infra.storage import Storage
from tests.s3_server import BUCKET


@pytest.fixture(params=["folder", "s3"])
def store_uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of an empty store of each kind; for S3 the AWS_* variables are set."""
    if request.param == "folder":
        return str(tmp_path / "store")
    for name, value in request.getfixturevalue("s3_server").variables().items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{secrets.token_hex(6)}"


@pytest.fixture
def store(store_uri: str) -> Storage:
    return Storage.open(store_uri)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own workspace, also in RATCHET_WORKSPACE."""
    monkeypatch.setenv("RATCHET_WORKSPACE", str(tmp_path / "workspace"))
    return tmp_path / "workspace"
