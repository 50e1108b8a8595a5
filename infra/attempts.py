"""Resume checkpoints of an unfinished stage: attempts/<stage>/<fingerprint>/step-00000120/, its marker written last.

A checkpoint without its marker was cut short and is ignored; an older one goes only when the newer one is whole. Where
several processes train together each puts its own files, and the first writes the marker when all have.
"""

import hashlib
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from infra.artifacts import Artifact
from infra.disk_errors import explained
from infra.errors import StoreError
from infra.storage import Storage
from infra.team import Team

MARKER = "complete.json"
CHOSEN = "chosen.json"
STEP_FOLDER = re.compile(r"step-(\d{8})")

logger = logging.getLogger(__name__)


class Checkpoints:
    """`scratch` is a local folder of this process, for the files on their way in and out."""

    def __init__(self, store: Storage, artifact: Artifact, scratch: Path, team: Team) -> None:
        self.store, self.scratch, self.team = store, scratch, team
        self.key = f"attempts/{artifact.stage}/{artifact.fingerprint}"

    def save(self, step: int, folder: Path, extra: dict[str, Any]) -> None:
        """Take all files of `folder`; `extra` (plain JSON) lies in the marker. Every process of the team calls it."""
        target = f"{self.key}/step-{step:08d}"
        if self.team.leads:
            self.store.delete(f"{target}/{MARKER}")
            self.store.delete_folder(target)
        self.team.meet()
        files = self._put(folder, target)
        self.store.put(f"{target}/{_list_name(self.team.rank)}", json.dumps(files).encode())
        self.team.meet()
        if self.team.leads:
            lists = [self.store.read(f"{target}/{_list_name(rank)}") for rank in range(self.team.size)]
            files = {name: digest for found in lists for name, digest in json.loads(found).items()}
            self.store.put(f"{target}/{MARKER}", json.dumps({"files": files, "extra": extra}).encode())
            for older in self._steps():
                if older != step:
                    self._remove(older)
        self.team.meet()

    def _put(self, folder: Path, target: str) -> dict[str, str]:
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            files[name] = file_sha256(path)
            self.store.put_file(path, f"{target}/{name}", consume=True)
        return files

    def last(self) -> tuple[int, Path, dict[str, Any]] | None:
        """The newest whole checkpoint: its step, a local folder with its files, its `extra`.

        Of a team the first chooses for all; raises StoreError in another that cannot read what was chosen.
        """
        if self.team.size == 1:
            return self._newest_whole()
        if self.team.leads:
            found = self._newest_whole()
            self.store.put(f"{self.key}/{CHOSEN}", json.dumps({"step": found[0] if found else None}).encode())
        self.team.meet()
        step = json.loads(self.store.read(f"{self.key}/{CHOSEN}"))["step"]
        return None if step is None else self._open(step, self.store.read(f"{self.key}/step-{step:08d}/{MARKER}"))

    def _open(self, step: int, marker: bytes) -> tuple[int, Path, dict[str, Any]]:
        values = json.loads(marker)
        return step, self._fetch(step, values["files"]), values["extra"]

    def _newest_whole(self) -> tuple[int, Path, dict[str, Any]] | None:
        for step in sorted(self._steps(), reverse=True):
            found = self.store.read_if_exists(f"{self.key}/step-{step:08d}/{MARKER}")
            if found is None:
                continue
            try:
                return self._open(step, found)
            except (StoreError, ValueError, KeyError) as error:
                logger.warning("checkpoint %s of step %d is damaged and skipped: %s", self.key, step, error)
        return None

    def remove(self) -> None:
        self.store.delete(f"{self.key}/{CHOSEN}")
        for step in self._steps():
            self._remove(step)

    def _steps(self) -> list[int]:
        return [int(match[1]) for name in self.store.children(self.key) if (match := STEP_FOLDER.fullmatch(name))]

    def _remove(self, step: int) -> None:
        """The marker goes first, so that a kill leaves nothing that looks whole."""
        folder = f"{self.key}/step-{step:08d}"
        self.store.delete(f"{folder}/{MARKER}")
        self.store.delete_folder(folder)

    def _fetch(self, step: int, files: dict[str, str]) -> Path:
        key = f"{self.key}/step-{step:08d}"
        folder = self.store.local_path(key)
        if folder is None:
            folder = self.scratch / f"step-{step:08d}"
            for name in files:
                self.store.get_file(f"{key}/{name}", folder / name)
        for name, expected in files.items():
            if not (folder / name).is_file():
                raise StoreError(f"{key}/{name} is missing")
            if (found := file_sha256(folder / name)) != expected:
                raise StoreError(f"{key}/{name} has sha256 {found}, its marker says {expected}")
        return folder


def _list_name(rank: int) -> str:
    return f"files-{rank:05d}.json"


def file_sha256(path: Path) -> str:
    with explained(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def copy_file(source: Path, target: Path) -> None:
    """Copy content only; folders above `target` are made."""
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
