"""Every environment variable that Ratchet reads, typed; the services' own standard variables included.

Nothing else in Ratchet reads these. AWS_* variables are read by the S3 client itself.
Secrets are no part of `Settings`, which is printed and passed on: `openai_api_key` and `serve_token` read them.
"""

import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr

from infra.errors import InputError

DEFAULT_WORKSPACE = ".ratchet"
PROJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
OPENAI_KEYS = ("RATCHET_OPENAI_API_KEY", "OPENAI_API_KEY")
"""The first that is set is the key of hosted models; the second is every OpenAI client's."""
SERVE_TOKEN = "RATCHET_SERVE_TOKEN"
"""What clients of `ratchet serve` must send as their API key."""


class Settings(BaseModel):
    """Where a user's store and services are. None means: not configured, so an embedded one is started."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: Path
    """RATCHET_WORKSPACE: folder of the store, databases, logs and caches; absolute."""
    store: str
    """RATCHET_STORE: an absolute folder or s3://BUCKET/PREFIX; `store` in the workspace by default."""
    project: str | None = None
    """RATCHET_PROJECT; None takes the preset's name."""
    prefect_api_url: str | None = None
    """PREFECT_API_URL"""
    mlflow_tracking_uri: str | None = None
    """MLFLOW_TRACKING_URI"""
    ray_address: str | None = None
    """RAY_ADDRESS: the job server's URL."""

    @staticmethod
    def from_env(**overrides: Any) -> "Settings":
        """Settings from the environment; an override that is None counts as not given.

        Raises InputError with the variable, what it holds and the remedy.
        """
        unknown = set(overrides) - set(Settings.model_fields)
        if unknown:
            raise InputError(f"no such setting: {sorted(unknown)}", f"use one of {sorted(Settings.model_fields)}")
        given = {name: value for name, value in overrides.items() if value is not None}
        workspace = workspace_path(given.get("workspace"))
        store = given.get("store") or _variable("RATCHET_STORE") or str(workspace / "store")
        return Settings(
            workspace=workspace,
            store=_store(str(store)),
            project=_project(given.get("project") or _variable("RATCHET_PROJECT")),
            prefect_api_url=_url("PREFECT_API_URL", given.get("prefect_api_url")),
            mlflow_tracking_uri=_url("MLFLOW_TRACKING_URI", given.get("mlflow_tracking_uri")),
            ray_address=_url("RAY_ADDRESS", given.get("ray_address")),
        )


def workspace_path(given: str | Path | None = None) -> Path:
    """The workspace alone: what a job needs to find its cache. Absolute; it need not exist."""
    path = Path(given or _variable("RATCHET_WORKSPACE") or DEFAULT_WORKSPACE).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise InputError(f"RATCHET_WORKSPACE is {path}, which is a file", "name a folder; it is made when missing")
    return path


def openai_api_key() -> SecretStr | None:
    """The key of hosted models (`openai:URL#NAME`), None for none. Raises InputError for what no key can be.

    It is read where it is used, in the process that speaks to the endpoint, and is passed on to nobody.
    """
    return next((key for key in map(_secret, OPENAI_KEYS) if key is not None), None)


def serve_token() -> SecretStr | None:
    """The key that `ratchet serve` asks of its clients, None for none. Raises InputError for what no key can be."""
    return _secret(SERVE_TOKEN)


def _secret(name: str) -> SecretStr | None:
    value = _variable(name)
    if value is not None and not all("!" <= letter <= "~" for letter in value):
        raise InputError(f"{name} holds blanks or characters beyond ASCII", "set it to the key alone")
    return None if value is None else SecretStr(value)


def _variable(name: str) -> str | None:
    """The variable without surrounding blanks; an empty one counts as unset."""
    return os.environ.get(name, "").strip() or None


def _store(value: str) -> str:
    if value.startswith("s3://"):
        if not value.removeprefix("s3://").strip("/"):
            raise InputError(
                f"RATCHET_STORE is {value!r}, which names no bucket", "use s3://BUCKET or s3://BUCKET/PREFIX"
            )
        return value.rstrip("/")
    if "://" in value:
        raise InputError(
            f"RATCHET_STORE is {value!r}, a scheme that is not known", "use a folder or s3://BUCKET/PREFIX"
        )
    return str(Path(value).expanduser().absolute())


def _project(value: str | None) -> str | None:
    if value is not None and not PROJECT_NAME.fullmatch(value):
        raise InputError(
            f"RATCHET_PROJECT is {value!r}",
            "use 1–64 letters, digits, '.', '_' or '-', starting with a letter or digit",
        )
    return value


def _url(variable: str, given: str | None) -> str | None:
    value = given or _variable(variable)
    if value is not None and not re.match(r"https?://[^/\s]+", value):
        remedy = "give the server's URL, such as http://127.0.0.1:8265"
        if variable == "RAY_ADDRESS":
            remedy = "give the URL of Ray's job server (its dashboard), such as http://127.0.0.1:8265"
        raise InputError(f"{variable} is {value!r}, expected an http(s) URL", remedy)
    return value.rstrip("/") if value else None
