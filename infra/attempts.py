"""Resume checkpoints of an unfinished stage: attempts/<stage>/<fingerprint>/step-00000120/, its marker written last.

Further ones of a step that takes long are step-00000120-00001 and so on: names sort by age. A checkpoint without its
marker was cut short and is ignored; an older one goes only when the newer one is whole. Where several processes train
together each puts its own files, and the first writes the marker when all have.
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
CHOSEN, NEXT = "chosen.json", "next.json"
"""What the first of a team decides for all: the checkpoint to read, the one to write."""
STEP_FOLDER = re.compile(r"step-\d{8}(-\d{5})?")
Checkpoint = tuple[int, Path, dict[str, Any]]
"""Its step, a local folder with its files, its `extra`."""

logger = logging.getLogger(__name__)


class Checkpoints:
    """`scratch` is a local folder of this process, for the files on their way in and out."""

    def __init__(self, store: Storage, artifact: Artifact, scratch: Path, team: Team) -> None:
        self.store, self.scratch, self.team = store, scratch, team
        self.key = f"attempts/{artifact.stage}/{artifact.fingerprint}"

    def save(self, step: int, folder: Path, extra: dict[str, Any]) -> None:
        """Take all files of `folder`; `extra` (plain JSON) lies in the marker. Every process of the team calls it."""
        name = self._agreed_name(step)
        target = f"{self.key}/{name}"
        files = self._put(folder, target)
        self.store.put(f"{target}/{_list_name(self.team.rank)}", json.dumps(files).encode())
        self.team.meet()
        if self.team.leads:
            lists = [self.store.read(f"{target}/{_list_name(rank)}") for rank in range(self.team.size)]
            files = {path: digest for found in lists for path, digest in json.loads(found).items()}
            self.store.put(f"{target}/{MARKER}", json.dumps({"files": files, "extra": extra}).encode())
            for older in self._names():
                if older != name:
                    self._remove(older)
        self.team.meet()

    def _agreed_name(self, step: int) -> str:
        """The first of a team finds it for all, since listings may differ."""
        if self.team.size == 1:
            return self._new_name(step)
        if self.team.leads:
            self.store.put(f"{self.key}/{NEXT}", json.dumps({"name": self._new_name(step)}).encode())
        self.team.meet()
        return json.loads(self.store.read(f"{self.key}/{NEXT}"))["name"]

    def _new_name(self, step: int) -> str:
        """After all that there are of this step. Those that were cut short go: they must not pile up."""
        first, names = f"step-{step:08d}", self._names()
        for name in {*names} - {*whole_checkpoints(self.store, self.key)}:
            self._remove(name)
        taken = [name for name in names if name.startswith(first)]
        return f"{first}-{int(taken[-1].removeprefix(first)[1:] or 0) + 1:05d}" if taken else first

    def _put(self, folder: Path, target: str) -> dict[str, str]:
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            files[name] = file_sha256(path)
            self.store.put_file(path, f"{target}/{name}", consume=True)
        return files

    def last(self) -> Checkpoint | None:
        """The newest whole checkpoint.

        Of a team the first chooses for all; raises StoreError in another that cannot read what was chosen.
        """
        if self.team.size == 1:
            return self._newest_whole()[1]
        if self.team.leads:
            self.store.put(f"{self.key}/{CHOSEN}", json.dumps({"name": self._newest_whole()[0]}).encode())
        self.team.meet()
        name = json.loads(self.store.read(f"{self.key}/{CHOSEN}"))["name"]
        return self._open(name, self.store.read(f"{self.key}/{name}/{MARKER}")) if name else None

    def _open(self, name: str, marker: bytes) -> Checkpoint:
        values = json.loads(marker)
        return _step_of(name), self._fetch(name, values["files"]), values["extra"]

    def _newest_whole(self) -> tuple[str, Checkpoint | None]:
        for name in reversed(self._names()):
            found = self.store.read_if_exists(f"{self.key}/{name}/{MARKER}")
            if found is None:
                continue
            try:
                return name, self._open(name, found)
            except (StoreError, ValueError, KeyError) as error:
                logger.warning("checkpoint %s of step %d is damaged and skipped: %s", self.key, _step_of(name), error)
        return "", None

    def remove(self) -> None:
        for decided in (CHOSEN, NEXT):
            self.store.delete(f"{self.key}/{decided}")
        for name in self._names():
            self._remove(name)

    def _names(self) -> list[str]:
        return checkpoint_names(self.store, self.key)

    def _remove(self, name: str) -> None:
        """The marker goes first, so that a kill leaves nothing that looks whole."""
        self.store.delete(f"{self.key}/{name}/{MARKER}")
        self.store.delete_folder(f"{self.key}/{name}")

    def _fetch(self, checkpoint: str, files: dict[str, str]) -> Path:
        key = f"{self.key}/{checkpoint}"
        folder = self.store.local_path(key)
        if folder is None:
            folder = self.scratch / checkpoint
            for name in files:
                self.store.get_file(f"{key}/{name}", folder / name)
        for name, expected in files.items():
            if not (folder / name).is_file():
                raise StoreError(f"{key}/{name} is missing")
            if (found := file_sha256(folder / name)) != expected:
                raise StoreError(f"{key}/{name} has sha256 {found}, its marker says {expected}")
        return folder


def whole_checkpoints(store: Storage, key: str) -> list[str]:
    """Names of those below an attempt's key that have their marker, the oldest first."""
    return _names_of(key, [file for file in store.list(key) if file.endswith(f"/{MARKER}")])


def checkpoint_names(store: Storage, key: str) -> list[str]:
    """Of all below an attempt's key, whole or not, the oldest first; not `children`, of which some may be gone."""
    return _names_of(key, store.list(key))


def _names_of(key: str, files: list[str]) -> list[str]:
    names = {file.removeprefix(f"{key}/").partition("/")[0] for file in files}
    return sorted(name for name in names if STEP_FOLDER.fullmatch(name))


def _step_of(name: str) -> int:
    return int(name.split("-")[1])


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
