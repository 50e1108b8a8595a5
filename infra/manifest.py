"""The manifest of an artifact: written last, once; it alone says which files belong and what they hold."""

import builtins
import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from infra.errors import ArtifactCorrupt, InputError
from infra.storage import check_key

MANIFEST = "manifest.json"
SCHEMA_VERSION = "1.0"
LOG_FILES = frozenset({"curves.json"})
"""Files that may hold timings; the artifact's own checksum leaves them out."""
FINGERPRINT = r"^[0-9a-f]{32}$"


class FileEntry(BaseModel):
    model_config = ConfigDict(frozen=True)

    path: str
    """Relative to the artifact's folder."""
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        try:
            return check_key(path)
        except InputError as error:
            raise ValueError(error.message) from error

    @staticmethod
    def of(path: str, data: builtins.bytes) -> "FileEntry":
        return FileEntry(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


class Manifest(BaseModel):
    """What an artifact is, where it comes from and what its files hold."""

    model_config = ConfigDict(frozen=True)

    schema_version: str = SCHEMA_VERSION
    stage: str
    label: str
    """The stage's name in its run, such as "rpo-2"."""
    fingerprint: str = Field(pattern=FINGERPRINT)
    kind: str
    version: int
    """Version of the stage's code."""
    recipe: dict[str, Any]
    code_version: str
    inputs: dict[str, str | list[str]]
    """Fingerprints by the name of the stage's parameter."""
    input_stages: dict[str, str | list[str]]
    """Stages that made the inputs, in the same shape."""
    files: list[FileEntry]
    """In order of path."""
    rows: int | None
    bytes: int
    metrics: dict[str, float]
    result: dict[str, Any]
    """A small typed outcome for the flow to branch on."""
    counts: dict[str, int]
    """Data only: rows "in", "kept" and "dropped:<reason>"."""
    wall_s: float
    device: str
    created: str
    """ISO 8601, UTC."""

    def sha256(self) -> str:
        """Over paths and checksums of the data files, in order: equal for artifacts with equal data."""
        lines = [f"{file.path}\0{file.sha256}\n" for file in self.files if file.path not in LOG_FILES]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Raises ArtifactCorrupt, naming `where`, for anything but a manifest; InputError for an unknown major version."""
    try:
        raw = json.loads(data)
        version = str(raw["schema_version"])
        if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise InputError(
                f"{where} has schema version {version}, this Ratchet reads {SCHEMA_VERSION}",
                "use the Ratchet that wrote it",
            )
        return Manifest.model_validate(raw, strict=True)
    except (ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ArtifactCorrupt(f"{where} cannot be read: {reason}", "quarantine it and make it again") from error
