"""What is no artifact and can go: unfinished work, quarantined copies, jobs that have ended, the workspace's cache."""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISDIR

from deployments.garbage import Garbage
from deployments.modified import modified
from deployments.needed import Needs
from infra.errors import ArtifactCorrupt
from infra.manifest import MANIFEST, parse_manifest
from infra.storage import Storage

CACHE = "cache"
RESUMED = {"unfinished", "attempt", "job"}
"""Kinds of garbage that a run which was stopped goes on from."""


@dataclass(frozen=True)
class Folder:
    """Files of the store below one folder; `changed` is when the last of them was written."""

    key: str
    files: Mapping[str, int]
    """Bytes by key."""
    changed: datetime

    def garbage(self, store: Storage, kind: str, reason: str) -> Garbage:
        size, keys = sum(self.files.values()), tuple(sorted(self.files))
        return Garbage(store.location(self.key), kind, size, reason, keys, self.key)


def leftovers(store: Storage, workspace: Path, since: datetime, needs: Needs) -> list[Garbage]:
    """Nothing that was written to after `since`; of what a run may take up again, nothing after `needs.since`."""
    readers: dict[str, tuple[int, Callable[[Storage, Folder], Garbage | None]]] = {
        "artifacts": (3, unnamed), "attempts": (3, attempt), "quarantine": (4, quarantined), "jobs": (2, ended_job),
    }  # fmt: skip
    found = [
        item
        for top, (depth, read) in readers.items()
        for folder in folders(store, top, depth)
        if folder.changed <= since and folder.key not in needs.jobs and (item := read(store, folder)) is not None
        if item.kind not in RESUMED or folder.changed <= needs.since
    ]
    return [*found, *cached(workspace / CACHE, since)]


def folders(store: Storage, top: str, depth: int) -> Iterator[Folder]:
    """Those `depth` names deep."""
    sizes, changed = store.sizes(top), modified(store, top)
    files: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for key, size in sizes.items():
        if len(parts := key.split("/")) > depth and key in changed:
            files["/".join(parts[:depth])][key] = size
    for key, found in files.items():
        yield Folder(key, found, max(changed[name] for name in found))


def unnamed(store: Storage, folder: Folder) -> Garbage | None:
    """Shards and files of a stage that was not finished, and what lies beside an artifact without belonging to it."""
    manifest = f"{folder.key}/{MANIFEST}"
    if manifest not in folder.files:
        return folder.garbage(store, "unfinished", "files of a stage that was not finished: no manifest names them")
    try:
        named = {f"{folder.key}/{file.path}" for file in parse_manifest(store.read(manifest), manifest).files}
    except ArtifactCorrupt:
        return None
    stray = {key: size for key, size in folder.files.items() if key not in named | {manifest}}
    if not stray:
        return None
    return Folder(folder.key, stray, folder.changed).garbage(store, "stray", "files that the manifest does not name")


def attempt(store: Storage, folder: Folder) -> Garbage:
    _, stage, fingerprint = folder.key.split("/")
    done = store.exists(f"artifacts/{stage}/{fingerprint}/{MANIFEST}")
    state = "is finished" if done else f"was not finished, last written {folder.changed:%Y-%m-%d %H:%M}"
    return folder.garbage(store, "attempt", f"resume state of a stage that {state}")


def quarantined(store: Storage, folder: Folder) -> Garbage:
    why = store.read_if_exists(f"{folder.key}/reason.txt") or b"no reason given"
    return folder.garbage(store, "quarantine", f"damaged copy: {why.decode(errors='replace')[:200]}")


def ended_job(store: Storage, folder: Folder) -> Garbage:
    return folder.garbage(store, "job", f"settings and log of a job that has ended{steps_of(store, folder)}")


def steps_of(store: Storage, folder: Folder) -> str:
    try:
        steps = json.loads(store.read_if_exists(f"{folder.key}/spec.json") or b"{}")["steps"]
        return ": " + ", ".join(step["label"] for step in steps)
    except (ValueError, KeyError, TypeError):
        return ""


def cached(cache: Path, since: datetime) -> Iterator[Garbage]:
    """Local copies, which are fetched again when they are wanted. Links are not followed."""
    for path in sorted(cache.iterdir()) if cache.is_dir() else ():
        inside = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        files = inside if path.is_dir() and not path.is_symlink() else []
        stats = [found for file in (path, *files) if (found := stat_of(file)) is not None]
        if stats and datetime.fromtimestamp(max(one.st_mtime for one in stats), UTC) <= since:
            size = sum(one.st_size for one in (stats[1:] if files else stats) if not S_ISDIR(one.st_mode))
            yield Garbage(str(path), "cache", size, "a copy, fetched again when it is wanted", local=path)


def stat_of(path: Path) -> os.stat_result | None:
    """Of the file or link itself; None for what has vanished."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
