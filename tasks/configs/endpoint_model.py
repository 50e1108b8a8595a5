"""Settings of a hosted model: where it is and what it is called there. Its weights are not ours to see."""

import re
from ipaddress import ip_address
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from infra.artifacts import Artifact
from infra.errors import InputError
from tasks.configs.base import Kind, StageConfig

ENDPOINT_FILE = "endpoint.json"
"""Marks a checkpoint that is a hosted model: {"url", "model", "revision"}."""
PREFIX = "openai:"
FORM = "openai:URL#NAME, such as openai:https://api.example.com/v1#some-model"
REVISION = ";revision="
DEFAULT_PORTS = {"http": 80, "https": 443}
NAME = re.compile(r"[!-~]([ -~]{0,254}[!-~])?")


class EndpointModelConfig(StageConfig):
    """A model behind an OpenAI-compatible endpoint, known by its URL and name alone."""

    stage: ClassVar[str] = "endpoint_model"
    module: ClassVar[str] = "tasks.endpoint_model"
    kind: ClassVar[Kind] = "checkpoint"

    url: str
    """Base of the routes, which usually ends with /v1; without credentials."""
    model: str = Field(pattern=f"^{NAME.pattern}$")
    """What the server calls it."""
    revision: str = ""
    """A note to raise when the model behind the name changed: then everything is written anew."""
    licence: str = ""
    """SPDX identifier or name of the terms for what it writes; "" for unknown."""

    @field_validator("url")
    @classmethod
    def _plain(cls, value: str) -> str:
        return base_url(value)

    @classmethod
    def of(cls, reference: str) -> "EndpointModelConfig":
        """From `openai:URL#NAME` or `openai:URL#NAME;revision=NOTE`. Raises InputError."""
        url, _, name = reference.removeprefix(PREFIX).partition("#")
        model, _, revision = name.partition(REVISION)
        if not NAME.fullmatch(model):
            raise InputError(f"{PREFIX}{shown(url)}#{model[:80]!r} names no model behind the URL", f"write {FORM}")
        return cls(url=url, model=model, revision=revision)

    @property
    def reference(self) -> str:
        """How a user writes it."""
        return f"{PREFIX}{self.url}#{self.model}" + (f"{REVISION}{self.revision}" if self.revision else "")


def is_hosted(source: StageConfig | Artifact | None) -> bool:
    """Whether a model is behind an endpoint, so that there are no weights to train, export or serve."""
    return isinstance(source, EndpointModelConfig) or (
        isinstance(source, Artifact) and source.stage == EndpointModelConfig.stage
    )


def base_url(text: str) -> str:
    """The URL as an identity: scheme and host in lower case, no default port, no slash at the end.

    Raises InputError for anything else than a plain http(s) address, without repeating what may be a secret.
    """
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise InputError(f"{shown(text)} is no URL: {error}", f"write {FORM}") from None
    if parts.scheme not in DEFAULT_PORTS or not host or not re.fullmatch(r"[!-~]+", text):
        raise InputError(f"{shown(text)!r} is no http(s) URL", f"write {FORM}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError(
            f"{shown(text)}: a user, a password or a query has no place in the URL, which is stored and shown",
            "give the base URL alone, and the key as RATCHET_OPENAI_API_KEY",
        )
    host = f"[{host}]" if ":" in host else host
    place = host if port in (None, DEFAULT_PORTS[parts.scheme]) else f"{host}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def shown(url: str) -> str:
    """What of a URL may be repeated in a message: nothing before an @ and nothing after a question mark."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"[:200] if rest else url.partition("?")[0][:200]


def is_loopback(url: str) -> bool:
    """Whether the URL stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
