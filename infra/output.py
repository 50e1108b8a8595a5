"""What a stage writes into. Shards go to the store one by one, so that a restarted job skips them; other files wait in
a local scratch folder until `commit` puts them there and, last of all, the manifest.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.artifacts import Artifact, input_fingerprints
from infra.attempts import Checkpoints, copy_file, file_sha256
from infra.errors import AlreadyExists, ArtifactCorrupt, InputError, StageFailed
from infra.identity import check_plain
from infra.manifest import MANIFEST, FileEntry, Manifest
from infra.parquet import is_whole, open_parquet, read_rows, stored_schema, to_parquet
from infra.scratch import Scratch
from infra.storage import Storage, check_key
from infra.team import Team

PROGRESS_EVERY_S = 1.0
CURVES = "curves.json"
Inputs = Mapping[str, Artifact | Sequence[Artifact]]


@dataclass
class Outcome:
    """What a stage's `run` returns; it lands in the manifest."""

    rows: int | None = None
    """None lets `commit` count the rows of the shards."""
    metrics: dict[str, float] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    """Small and typed: what the flow branches on."""
    counts: dict[str, int] = field(default_factory=dict)
    """Data: rows "in", "kept" and "dropped:<reason>"."""


@dataclass(frozen=True)
class _Shard:
    entry: FileEntry
    rows: int
    schema: pa.Schema


class Output:
    """The artifact in the making. A damaged artifact at its address is quarantined first.

    `events` takes dicts with an "event" key ("progress", "metrics", "line"); `workspace` holds the scratch folder. Of a
    team of processes that train together each has one, and only the first's speaks and is committed.
    """

    def __init__(
        self,
        artifact: Artifact,
        store: Storage,
        events: Callable[[dict[str, Any]], None],
        workspace: Path,
        team: Team | None = None,
    ) -> None:
        self.team = team or Team()
        self.artifact, self.store = artifact, store
        self.events = events if self.team.leads else _silent
        self.fingerprint = artifact.fingerprint
        self._scratch = Scratch(workspace / "scratch", f"{artifact.stage}-{artifact.fingerprint}")
        self._staged = self._scratch.folder()
        self._checkpoints = Checkpoints(store, artifact, self._scratch.folder(), self.team)
        self._shards: dict[int, _Shard] = {}
        self._curves: dict[int, dict[str, float | None]] = {}
        self._progress: dict[str, Any] | None = None
        self._progress_sent = -math.inf
        problems = artifact.check() if self.team.leads else []
        if problems and problems != [(MANIFEST, "missing")]:
            artifact.quarantine("; ".join(f"{file}: {reason}" for file, reason in problems))

    def has_shard(self, number: int) -> bool:
        """Whether a readable shard is there, perhaps from an earlier attempt; it then belongs to the artifact."""
        data = self.store.read_if_exists(self._shard_key(number))
        shard = _read_shard(data, number) if data is not None else None
        if shard:
            self._shards[number] = shard
        return shard is not None

    def write_shard(self, number: int, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
        """part-00017.parquet in one create-only step; a readable one with this schema that is there already stays.

        Raises InputError for rows that do not fit `schema`.
        """
        key, data = self._shard_key(number), to_parquet(rows, schema)
        shard = _Shard(FileEntry.of(_shard_name(number), data), len(rows), stored_schema(schema))
        try:
            self.store.create(key, data)
        except AlreadyExists:
            existing = _read_shard(self.store.read(key), number)
            if existing and existing.schema.equals(shard.schema, check_metadata=True):
                shard = existing
            else:
                self.store.put(key, data)
        self._shards[number] = shard

    def read_shard(self, number: int) -> list[dict[str, Any]]:
        """Rows of a shard that is there; it then belongs to the artifact."""
        if not self.has_shard(number):
            raise ArtifactCorrupt(f"no readable shard {self.store.location(self._shard_key(number))}", "write it first")
        return [*read_rows(open_parquet(self.store.read(self._shard_key(number))), 1024)]

    def write_bytes(self, name: str, data: bytes) -> None:
        """A file of the artifact; the last write of a name counts."""
        self._scratch.write(self._staged / _file_name(name), data)

    def write_text(self, name: str, text: str) -> None:
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: Any) -> None:
        """Sorted keys, so that equal values are equal bytes; InputError for what JSON cannot hold exactly."""
        check_plain(value, name)
        self.write_text(name, json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1))

    def write_folder(self, local: Path, prefix: str = "") -> None:
        """Every file below `local`, copied now, under the same relative name."""
        for path in sorted(path for path in local.rglob("*") if path.is_file()):
            name = path.relative_to(local).as_posix()
            copy_file(path, self._staged / _file_name(f"{prefix.rstrip('/')}/{name}" if prefix else name))

    def scratch_folder(self) -> Path:
        """A new empty folder on the workspace's disk; it goes with this Output."""
        return self._scratch.folder()

    def progress(self, done: float, total: float | None, unit: str, **more: Any) -> None:
        """At most one event a second; the last one always gets through. `total` is None where nobody knows it."""
        self._progress = {"event": "progress", "done": done, "total": total, "unit": unit, **more}
        if (total is not None and done >= total) or time.monotonic() - self._progress_sent >= PROGRESS_EVERY_S:
            self._send_progress()

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """A point of the training curves, told at once and kept for curves.json; log it before the step's checkpoint.

        Values that are not finite are kept as null.
        """
        self.events({"event": "metrics", "step": step, "values": dict(values)})
        kept = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
        self._curves[step] = self._curves.get(step, {}) | kept

    def say(self, text: str) -> None:
        """A line in the stage's log."""
        self.events({"event": "line", "text": text})

    def save_checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        """Let `write` fill an empty folder and keep it as the resume point; older ones go once this one is whole.

        `step` is the last one done; of several with the same the last counts. May run in another thread, one at a time.
        """
        folder = self._scratch.folder()
        write(folder)
        known = sorted(self._curves.copy().items())
        curves = [{"step": at, "values": values} for at, values in known if at <= step]
        self._checkpoints.save(step, folder, {"curves": curves})
        self._scratch.drop(folder)

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """The newest whole checkpoint and its files (read only); curves then go on from its step, without a seam."""
        found = self._checkpoints.last()
        if found is None:
            return None
        step, folder, extra = found
        self._curves = {point["step"]: point["values"] for point in extra["curves"]}
        return step, folder

    def commit(
        self,
        outcome: Outcome,
        *,
        recipe: Mapping[str, Any],
        inputs: Inputs,
        version: int,
        label: str,
        device: str,
        wall_s: float,
        code_version: str,
    ) -> Artifact:
        """Put the files, then the manifest, once. Where another writer was first, its artifact is checked and adopted.

        Raises StageFailed for metrics that are not finite or a wrong row count.
        """
        self._check(outcome, label)
        if self._progress:
            self._send_progress()
        if not self.artifact.exists():
            if self._curves:
                points = [{"step": step, "values": values} for step, values in sorted(self._curves.items())]
                self.write_json(CURVES, points)
            files = self._put_files()
            manifest = Manifest(
                stage=self.artifact.stage, label=label, fingerprint=self.fingerprint, kind=self.artifact.kind,
                version=version, recipe=dict(recipe), code_version=code_version, inputs=input_fingerprints(inputs),
                input_stages=_input_stages(inputs), files=files, rows=self._row_count(outcome, label),
                bytes=sum(file.bytes for file in files), metrics=outcome.metrics, result=outcome.result,
                counts=outcome.counts, wall_s=wall_s, device=device,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            )  # fmt: skip
            self._put_manifest(manifest)
        self._checkpoints.remove()
        self.close()
        return self.artifact

    def close(self) -> None:
        """Remove what was not committed."""
        self._scratch.close()

    def _put_files(self) -> list[FileEntry]:
        """Every file of this artifact in the store, nothing else beside them."""
        entries = [shard.entry for shard in self._shards.values()]
        for path in sorted(path for path in self._staged.rglob("*") if path.is_file()):
            name = path.relative_to(self._staged).as_posix()
            entries.append(FileEntry(path=name, bytes=path.stat().st_size, sha256=file_sha256(path)))
            self.store.put_file(path, f"{self.artifact.key}/{name}", consume=True)
        entries.sort(key=lambda entry: entry.path)
        named = {f"{self.artifact.key}/{entry.path}" for entry in entries} | {f"{self.artifact.key}/{MANIFEST}"}
        for key in self.store.list(self.artifact.key):
            if key not in named:
                self.store.delete(key)
        return entries

    def _put_manifest(self, manifest: Manifest) -> None:
        try:
            self.store.create(f"{self.artifact.key}/{MANIFEST}", manifest.to_json().encode())
        except AlreadyExists:
            problems = self.artifact.verify()
            if problems:
                self.artifact.quarantine(f"another writer finished it first and it is damaged: {problems}")
                raise ArtifactCorrupt(
                    f"{self.artifact.uri} was finished by another writer first and is damaged: {problems}",
                    "it is quarantined; run again to make it again",
                ) from None
            self.say("another writer finished this artifact first; it is adopted")

    def _row_count(self, outcome: Outcome, label: str) -> int | None:
        if not self._shards:
            return outcome.rows
        found = sum(shard.rows for shard in self._shards.values())
        if outcome.rows not in (None, found):
            raise StageFailed(
                f"the stage says {outcome.rows} rows, its shards hold {found}", "correct the stage's count", label
            )
        return found

    def _check(self, outcome: Outcome, label: str) -> None:
        schemas = [shard.schema for _, shard in sorted(self._shards.items())]
        if any(not schema.equals(schemas[0], check_metadata=True) for schema in schemas):
            raise StageFailed("its shards differ in their schema", "raise the stage's version: its code changed", label)
        bad = {name: value for name, value in outcome.metrics.items() if not math.isfinite(value)}
        if bad:
            raise StageFailed(f"metrics are not finite: {bad}", "look at the stage's inputs and log", label)
        check_plain(outcome.result, "result")

    def _send_progress(self) -> None:
        if self._progress:
            self.events(self._progress)
        self._progress, self._progress_sent = None, time.monotonic()

    def _shard_key(self, number: int) -> str:
        return f"{self.artifact.key}/{_shard_name(number)}"


def _silent(event: dict[str, Any]) -> None:
    """Another process of the team tells."""


def _shard_name(number: int) -> str:
    if not 0 <= number <= 99_999:
        raise InputError(f"shard number {number}", "use 0 to 99999")
    return f"part-{number:05d}.parquet"


def _file_name(name: str) -> str:
    check_key(name)
    if name == MANIFEST or (name.startswith("part-") and name.endswith(".parquet")):
        raise InputError(
            f"a stage may not write {name!r} itself", "use write_shard for rows; commit writes the manifest"
        )
    return name


def _read_shard(data: bytes, number: int) -> _Shard | None:
    """None when it is not as `to_parquet` wrote it."""
    if not is_whole(data):
        return None
    file = open_parquet(data)
    return _Shard(FileEntry.of(_shard_name(number), data), file.metadata.num_rows, file.schema_arrow)


def _input_stages(inputs: Inputs) -> dict[str, str | list[str]]:
    return {
        name: value.stage if isinstance(value, Artifact) else [item.stage for item in value]
        for name, value in inputs.items()
    }
