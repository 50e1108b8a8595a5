"""Where a source's files are: one file, or a folder's files in the order of their names; local, or on S3."""

import gzip
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from pyarrow.fs import PyFileSystem

from infra.errors import InputError
from infra.storage import Storage

REMEDY = "give the path of a file or folder that this machine can read, or s3://BUCKET/KEY"
HELD_OUT = re.compile(r"(?:^|[/._-])(?:test|unseen)(?:[/._-]|$)", re.IGNORECASE)
"""A file of a test split, by a part of its name in the folder: test.jsonl, test-00000-of-00001.parquet, test/1.json."""


@dataclass(frozen=True)
class SourceFile:
    """A file that can be read as often as is needed."""

    name: str
    """Within the source's folder; a single file's own name."""
    folder: str
    """Name of the folder that the source is, or that a single file lies in."""
    location: str
    """Path or s3:// address."""
    version: tuple[int, int | str]
    """Bytes, and a local file's time of change or S3's entity tag: while they are the same, so is its content."""
    open_raw: Callable[[], BufferedIOBase]

    @property
    def place(self) -> str:
        """All of its place that its rows may depend on, wherever the source lies: folder and name."""
        return f"{self.folder}/{self.name}"

    @property
    def suffix(self) -> str:
        """Of what is in it: ".jsonl" for a.jsonl.gz."""
        return Path(self.name.removesuffix(".gz")).suffix.lower()

    def open(self) -> BufferedIOBase:
        """Its bytes, decompressed. Raises InputError where it cannot be opened."""
        try:
            raw = self.open_raw()
        except OSError as error:
            raise InputError(f"{self.location}: {error.strerror or error}", REMEDY) from error
        return gzip.GzipFile(fileobj=raw) if self.name.endswith(".gz") else raw


def source_files(path: str) -> list[SourceFile]:
    """Every file of the source. Raises InputError where there is none."""
    found = _found(path)
    if not found:
        missing = "no file there" if "://" in path or Path(path).expanduser().is_dir() else "no such file or folder"
        raise InputError(f"{path}: {missing}", REMEDY)
    return found


def neighbours(location: str, name: str) -> tuple[str, str]:
    """Where `name` may be: beside the file, or beside the file's folder."""
    folder = location.rpartition("/")[0]
    return f"{folder}/{name}", f"{folder.rpartition('/')[0]}/{name}"


def files_to_read(path: str, suffixes: Sequence[str]) -> tuple[list[SourceFile], list[SourceFile]]:
    """The files with records, and those left out because they are a test split: nobody should train on it.

    A file that is given by itself is read, whatever its split. Raises InputError where nothing is to be read.
    """
    found = source_files(path)
    wanted = [file for file in found if file.suffix in suffixes]
    if not wanted:
        raise InputError(
            f"{path}: none of its {len(found)} files ends in {', '.join(suffixes)}; the first is {found[0].name}",
            "give this reader's kind of file, or another reader",
        )
    if found[0].location == _whole(path):
        return wanted, []
    kept = [file for file in wanted if not _is_held_out(file)]
    left_out = [file for file in wanted if _is_held_out(file)]
    if not kept:
        raise InputError(f"{path}: only files of a test split, such as {left_out[0].name}", "name the file to read")
    return kept, left_out


def _is_held_out(file: SourceFile) -> bool:
    return file.suffix not in (".txt", ".md", ".py") and HELD_OUT.search(file.name) is not None


def content_digest(path: str, beside: str = "") -> str:
    """128 bits over places and contents of the files, and of those in a folder named `beside` that is a neighbour."""
    files = source_files(path)
    if beside:
        folders = {folder: None for file in files for folder in neighbours(file.location, beside)}
        files = [*files, *(file for folder in folders for file in _found(folder))]
    named = "".join(f"{file.place}\0{_file_digest(file.location, file.version)}\n" for file in files)
    return hashlib.sha256(named.encode(errors="surrogateescape")).hexdigest()[:32]


@cache
def _file_digest(location: str, version: tuple[int, int | str]) -> str:
    """`version` tells when a file has to be read again."""
    file = next(file for file in source_files(location))
    try:
        with file.open_raw() as raw:
            return hashlib.file_digest(raw, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"{location}: {error.strerror or error}", REMEDY) from error


def _whole(path: str) -> str:
    """Absolute, without a slash at its end."""
    return path.rstrip("/") if path.startswith("s3://") else os.path.abspath(Path(path).expanduser())


def _found(path: str) -> list[SourceFile]:
    return _on_s3(_whole(path)) if path.startswith("s3://") else _local(Path(_whole(path)))


def _local(path: Path) -> list[SourceFile]:
    if path.is_file():
        return [_local_file(path, path.name, path.parent.name)]
    names = [(place.relative_to(path).as_posix(), place) for place in path.rglob("*") if place.is_file()]
    return [_local_file(place, name, path.name) for name, place in sorted(names) if not re.search(r"(^|/)\.", name)]


def _local_file(path: Path, name: str, folder: str) -> SourceFile:
    status = path.stat()
    return SourceFile(name, folder, str(path), (status.st_size, status.st_mtime_ns), lambda: path.open("rb"))


def _on_s3(path: str) -> list[SourceFile]:
    parent, _, name = path.rpartition("/")
    if parent != "s3:/" and (store := Storage.open(parent)).exists(name):
        return [_s3_file(store, name, store.size(name), _entity_tags(store, name))]
    store = Storage.open(path)
    tags = _entity_tags(store, "")
    return [_s3_file(store, key, size, tags) for key, size in store.sizes().items()]


def _s3_file(store: Storage, key: str, size: int, tags: dict[str, str]) -> SourceFile:
    location, folder = store.location(key), store.uri.rpartition("/")[2]
    return SourceFile(key, folder, location, (size, tags[location]), lambda: store.open_input(key))


def _entity_tags(store: Storage, below: str) -> dict[str, str]:
    """By location: S3 gives each content another tag."""
    system, place = store.arrow(below or "any")
    client = cast(PyFileSystem, system).handler.fs
    found = client.find(place if below else place.removesuffix("/any"), detail=True)
    return {f"s3://{name}": entry["ETag"] for name, entry in found.items()}
