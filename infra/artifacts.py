"""Artifacts: immutable folders in the store whose `manifest.json` is written last. No manifest, no artifact.

    artifacts/<stage>/<fingerprint>/manifest.json, part-00000.parquet, model.safetensors, …

An address is a hash of what was asked for, so the same request finds what was made before. Nobody trusts a file that
no manifest names, and every read compares the bytes with the manifest's checksum.
"""

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from infra.disk_errors import explained
from infra.errors import AlreadyExists, ArtifactCorrupt, ArtifactMissing, InputError
from infra.identity import canonical_json, fingerprint_of
from infra.manifest import FINGERPRINT, MANIFEST, FileEntry, Manifest, parse_manifest
from infra.parquet import open_parquet, read_rows
from infra.settings import workspace_path
from infra.storage import SEGMENT, Storage

__all__ = ["Artifact", "FileEntry", "Manifest", "addresses", "cache_dir", "canonical_json",
           "fingerprint_of", "input_fingerprints", "list_artifacts"]  # fmt: skip

logger = logging.getLogger(__name__)


class Artifact(BaseModel):
    """A cheap handle that passes between tasks and processes; whatever it holds is read on demand."""

    model_config = ConfigDict(frozen=True)

    stage: str = Field(pattern=f"^{SEGMENT.pattern}$")
    kind: str
    fingerprint: str = Field(pattern=FINGERPRINT)
    store: str
    """The store's folder or s3:// address; no part of the artifact's identity."""

    @property
    def key(self) -> str:
        return f"artifacts/{self.stage}/{self.fingerprint}"

    @property
    def uri(self) -> str:
        return f"{self.store.rstrip('/')}/{self.key}"

    def storage(self) -> Storage:
        return Storage.open(self.store)

    def exists(self) -> bool:
        """Whether the manifest is there and all its files have their size; what is wrong is logged as a warning."""
        problems = self.check()
        for file, reason in problems:
            if reason != "missing" or file != MANIFEST:
                logger.warning("artifact %s is damaged: %s: %s", self.uri, file, reason)
        return not problems

    def manifest(self) -> Manifest:
        """Raises ArtifactMissing, ArtifactCorrupt for one that cannot be read, InputError for an unknown version."""
        data = self.storage().read_if_exists(f"{self.key}/{MANIFEST}")
        if data is None:
            raise ArtifactMissing(f"no manifest at {self.uri}", "make it again: run the stage that makes it")
        return self._parse(data)

    def check(self) -> list[tuple[str, str]]:
        """The cheap check, one listing: files that are missing or of the wrong size, as (file, reason)."""
        try:
            manifest = self.manifest()
        except ArtifactMissing:
            return [(MANIFEST, "missing")]
        except ArtifactCorrupt as error:
            return [(MANIFEST, error.message)]
        sizes = self.storage().sizes(self.key)
        problems = []
        for file in manifest.files:
            found = sizes.get(f"{self.key}/{file.path}")
            if found is None:
                problems.append((file.path, "missing"))
            elif found != file.bytes:
                problems.append((file.path, f"has {found} bytes, the manifest says {file.bytes}"))
        return problems

    def verify(self) -> list[tuple[str, str]]:
        """The full check: `check`, then the checksum of every file of the right size. Empty means good."""
        problems = self.check()
        bad = {file for file, _ in problems}
        if MANIFEST in bad:
            return problems
        for file in self.manifest().files:
            if file.path not in bad:
                with self.storage().open_input(f"{self.key}/{file.path}") as stream:
                    found = hashlib.file_digest(stream, "sha256").hexdigest()
                if found != file.sha256:
                    problems.append((file.path, f"sha256 is {found}, the manifest says {file.sha256}"))
        return problems

    def quarantine(self, reason: str) -> str:
        """Move the manifest first, then the files, out of the way, so that the stage is made again.

        Returns the key of the folder under quarantine/ that now holds them beside `reason.txt`.
        """
        store = self.storage()
        target = self._claim_quarantine(store, reason)
        names = [key.removeprefix(self.key + "/") for key in store.list(self.key)]
        for name in sorted(names, key=lambda name: (name != MANIFEST, name)):
            store.move(f"{self.key}/{name}", f"{target}/{name}")
        logger.warning("artifact %s is quarantined at %s: %s", self.uri, store.location(target), reason)
        return target

    def parts(self) -> list[str]:
        """Names of the Parquet files, in order."""
        return [file.path for file in self._part_entries(self.manifest())]

    def table(self) -> pa.Table:
        """All rows; InputError when there are none to read or the rows' schema version is unknown."""
        return pa.concat_tables(file.read() for file in self._open_parts())

    def rows(self) -> list[dict[str, Any]]:
        return [*self.iter_rows()]

    def iter_rows(self, batch: int = 1024) -> Iterator[dict[str, Any]]:
        """Rows one by one, in order; `batch` of them are decoded at a time."""
        for file in self._open_parts():
            yield from read_rows(file, batch)

    def read_bytes(self, name: str) -> bytes:
        """The file `name`, compared with its checksum; ArtifactMissing when the manifest does not name it."""
        files = self.manifest().files
        for file in files:
            if file.path == name:
                return self._read(file)
        raise ArtifactMissing(f"{self.uri} has no file {name!r}", f"it has {[file.path for file in files]}")

    def read_json(self, name: str) -> Any:
        try:
            return json.loads(self.read_bytes(name))
        except ValueError as error:
            raise ArtifactCorrupt(
                f"{self.uri}/{name} is no JSON: {error}", "quarantine it and make it again"
            ) from error

    def folder(self) -> Path:
        """A local folder with the artifact's files: the store's own, or a checked copy in the workspace's cache."""
        manifest = self.manifest()
        own = self.storage().local_path(self.key)
        return own if own else self._download(manifest, cache_dir() / f"{self.stage}-{self.fingerprint}")

    def _parse(self, data: bytes) -> Manifest:
        manifest = parse_manifest(data, f"{self.uri}/{MANIFEST}")
        if (manifest.stage, manifest.fingerprint) != (self.stage, self.fingerprint):
            raise ArtifactCorrupt(
                f"{self.uri}/{MANIFEST} belongs to {manifest.stage}/{manifest.fingerprint}",
                "quarantine it and make it again",
            )
        return manifest

    def _part_entries(self, manifest: Manifest) -> list[FileEntry]:
        return [file for file in manifest.files if file.path.startswith("part-") and file.path.endswith(".parquet")]

    def _open_parts(self) -> Iterator[pq.ParquetFile]:
        parts = self._part_entries(self.manifest())
        if not parts:
            raise InputError(f"{self.uri} holds no rows: it is of kind {self.kind!r}", "give a dataset")
        for part in parts:
            yield open_parquet(self._read(part))

    def _read(self, file: FileEntry) -> bytes:
        data = self.storage().read(f"{self.key}/{file.path}")
        found = hashlib.sha256(data).hexdigest()
        if found != file.sha256:
            raise ArtifactCorrupt(
                f"{self.uri}/{file.path} has {len(data)} bytes and sha256 {found}, "
                f"the manifest says {file.bytes} bytes and {file.sha256}",
                "`ratchet data verify` lists all such files; quarantined ones are made again",
            )
        return data

    def _claim_quarantine(self, store: Storage, reason: str) -> str:
        number = 1
        while True:
            target = f"quarantine/{self.stage}/{self.fingerprint}/{number}"
            try:
                store.create(f"{target}/reason.txt", reason.encode())
                return target
            except AlreadyExists:
                number += 1

    def _download(self, manifest: Manifest, target: Path) -> Path:
        """Once per workspace: into a folder beside the target, every checksum compared, then one rename."""
        kept = target / MANIFEST
        if kept.is_file() and self._parse(kept.read_bytes()).sha256() == manifest.sha256():
            return target
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            staged = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            self._fetch(manifest, staged)
            if kept.is_file() and self._parse(kept.read_bytes()).sha256() == manifest.sha256():
                return target  # another process was faster, and may be reading there
            if target.exists():
                shutil.rmtree(target, ignore_errors=True)
            try:
                staged.rename(target)
            except OSError:  # another process finished the same download first
                if not kept.is_file():
                    raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return target

    def _fetch(self, manifest: Manifest, folder: Path) -> None:
        store = self.storage()
        for file in manifest.files:
            store.get_file(f"{self.key}/{file.path}", folder / file.path)
            with (folder / file.path).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != file.sha256:
                raise ArtifactCorrupt(
                    f"{self.uri}/{file.path} arrived with sha256 {found}, the manifest says {file.sha256}",
                    "download again; if it stays, quarantine the artifact and make it again",
                )
        (folder / MANIFEST).write_text(manifest.to_json())


def cache_dir() -> Path:
    """Where copies of remote artifacts are kept; may be deleted at any time between runs."""
    return workspace_path() / "cache"


def input_fingerprints(inputs: Mapping[str, Artifact | Sequence[Artifact]]) -> dict[str, str | list[str]]:
    """What `fingerprint_of` takes, from the artifacts themselves."""
    return {
        name: value.fingerprint if isinstance(value, Artifact) else [item.fingerprint for item in value]
        for name, value in inputs.items()
    }


def addresses(store: Storage, stage: str | None = None) -> list[tuple[str, str]]:
    """(stage, fingerprint) of every manifest in the store, readable or not."""
    found = store.list(f"artifacts/{stage}" if stage else "artifacts")
    keys = [key.split("/") for key in found if key.endswith(f"/{MANIFEST}")]
    return [(parts[1], parts[2]) for parts in keys if len(parts) == 4 and re.match(FINGERPRINT, parts[2])]


def list_artifacts(store: Storage, stage: str | None = None) -> list[Artifact]:
    """Every artifact whose manifest can be read; the others are logged as warnings."""
    artifacts = []
    for name, fingerprint in addresses(store, stage):
        artifact = Artifact(stage=name, kind="unknown", fingerprint=fingerprint, store=store.uri)
        try:
            artifacts.append(artifact.model_copy(update={"kind": artifact.manifest().kind}))
        except (ArtifactCorrupt, ArtifactMissing, InputError) as error:
            logger.warning("%s", error)
    return artifacts
