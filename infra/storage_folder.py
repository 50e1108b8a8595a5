"""A store in a local folder. Unfinished writes lie under `.tmp/`, which no listing shows."""

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from pyarrow.fs import FileSystem, LocalFileSystem

from infra.disk_errors import explained

ABANDONED_AFTER_S = 24 * 3600
"""An unfinished write of this age belongs to a killed process and is removed by the next writer."""


class FolderBackend:
    STAGING = ".tmp"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)
        self._swept = False

    def location(self, key: str) -> str:
        return str(self.root / key)

    def local_path(self, key: str) -> Path | None:
        return self.root / key

    def arrow(self, key: str) -> tuple[FileSystem, str]:
        return LocalFileSystem(), str((self.root / key).absolute())

    def read(self, key: str) -> bytes:
        with self.open_input(key) as stream, explained(self.root / key):
            return stream.read()

    def size(self, key: str) -> int:
        path = self.root / key
        with explained(path), self._below_file():
            if not path.is_dir():
                return path.stat().st_size
        raise FileNotFoundError(errno.ENOENT, "a folder, not a file", str(path))

    def sizes(self, prefix: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for folder, subfolders, names in os.walk(self.root / prefix):
            if Path(folder) == self.root:
                subfolders[:] = [name for name in subfolders if name != self.STAGING]
            for name in names:
                path = Path(folder, name)
                try:
                    found[path.relative_to(self.root).as_posix()] = path.stat().st_size
                except FileNotFoundError:
                    continue  # removed since the folder was read
        return found

    def children(self, prefix: str) -> list[str]:
        try:
            entries = [*os.scandir(self.root / prefix)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = [entry.name for entry in entries if not entry.is_dir() or _holds_files(Path(entry.path))]
        return [name for name in names if prefix or name != self.STAGING]

    def put(self, key: str, data: bytes, create: bool) -> None:
        with explained(self.root / key), self._staged() as staged:
            with staged.open("xb") as stream:
                stream.write(data)
                _sync(stream)
            self._place(staged, key, create)

    def put_file(self, local: Path, key: str, create: bool, consume: bool) -> None:
        with explained(self.root / key), self._staged() as staged:
            if consume and self._same_disk(local):
                with local.open("rb+") as stream:
                    _sync(stream)
                return self._place(local, key, create)
            with local.open("rb") as source, staged.open("xb") as stream:
                shutil.copyfileobj(source, stream, 1 << 20)
                _sync(stream)
            return self._place(staged, key, create)

    def get_file(self, key: str, local: Path) -> None:
        with explained(local):
            local.parent.mkdir(parents=True, exist_ok=True)
            staged = local.with_name(f".{local.name}.{secrets.token_hex(4)}")
            try:
                with self.open_input(key) as source, staged.open("xb") as stream:
                    shutil.copyfileobj(source, stream, 1 << 20)
                staged.replace(local)
            finally:
                staged.unlink(missing_ok=True)

    def open_input(self, key: str) -> BufferedReader:
        path = self.root / key
        with explained(path), self._below_file():
            if path.is_dir():
                raise FileNotFoundError(errno.ENOENT, "a folder, not a file", str(path))
            return path.open("rb")

    def delete(self, key: str) -> None:
        path = self.root / key
        with explained(path):
            path.unlink(missing_ok=True)
            self._prune(path.parent)

    def move(self, source: str, target: str) -> None:
        with explained(self.root / target):
            self._place(self.root / source, target, create=False)
            self._prune((self.root / source).parent)

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        """A path for an unfinished write on the store's own disk; whatever is left of it afterwards is removed."""
        folder = self.root / self.STAGING
        folder.mkdir(parents=True, exist_ok=True)
        self._sweep(folder)
        staged = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            yield staged
        finally:
            staged.unlink(missing_ok=True)

    def _sweep(self, folder: Path) -> None:
        if self._swept:
            return
        self._swept = True
        for entry in os.scandir(folder):
            try:
                if time.time() - entry.stat().st_mtime > ABANDONED_AFTER_S:
                    os.unlink(entry.path)
            except FileNotFoundError:
                continue  # another process sweeps too

    def _place(self, whole: Path, key: str, create: bool) -> None:
        """Give a whole file its name in one step: a hard link fails where the name is taken, a rename replaces."""
        target = self.root / key
        step: Callable[[Path, Path], None] = os.link if create else os.replace
        if not whole.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(whole))
        for attempt in range(100):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                step(whole, target)
                break
            except FileNotFoundError:  # a concurrent delete pruned the folder that mkdir had just made
                if attempt == 99:
                    raise
            except FileExistsError as error:
                if not target.exists():  # mkdir met a file in the middle of the path
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target.parent)) from error
                raise
        _sync_folder(target.parent)

    def _prune(self, folder: Path) -> None:
        """Remove folders that a delete or move left empty, up to the store's root."""
        while folder != self.root:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _same_disk(self, local: Path) -> bool:
        return local.stat().st_dev == (self.root / self.STAGING).stat().st_dev

    @contextmanager
    def _below_file(self) -> Iterator[None]:
        """A key below another file is simply absent, as on S3."""
        try:
            yield
        except NotADirectoryError as error:
            raise FileNotFoundError(errno.ENOENT, str(error)) from error


def _holds_files(folder: Path) -> bool:
    return any(names for _, _, names in os.walk(folder))


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, not only a killed process."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
