"""Where a source's files are: one file, or a folder's files in the order of their names; local, or on S3."""

import gzip
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BufferedIOBase
from pathlib import Path

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
    location: str
    """Path or s3:// address."""
    version: tuple[int, int]
    """Bytes, and a local file's time of change: while they are the same, so is its content."""
    open_raw: Callable[[], BufferedIOBase]

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
    found = _on_s3(path) if path.startswith("s3://") else _local(Path(path).expanduser())
    if not found:
        raise InputError(f"{path}: no file there", REMEDY)
    return found


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
    if len(found) == 1:
        return wanted, []
    left_out = [file for file in wanted if file.suffix not in (".txt", ".md", ".py") and HELD_OUT.search(file.name)]
    kept = [file for file in wanted if file not in left_out]
    if not kept:
        raise InputError(f"{path}: only files of a test split, such as {left_out[0].name}", "name the file to read")
    return kept, left_out


def content_digest(path: str) -> str:
    """128 bits over the content of a file, or over names and contents of a folder's files."""
    files = source_files(path)
    digests = [_file_digest(file.location, file.version) for file in files]
    if len(files) == 1:
        return digests[0][:32]
    named = "".join(f"{file.name}\0{digest}\n" for file, digest in zip(files, digests, strict=True))
    return hashlib.sha256(named.encode(errors="surrogateescape")).hexdigest()[:32]


@cache
def _file_digest(location: str, version: tuple[int, int]) -> str:
    """`version` tells when a file has to be read again."""
    file = next(file for file in source_files(location))
    try:
        with file.open_raw() as raw:
            return hashlib.file_digest(raw, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"{location}: {error.strerror or error}", REMEDY) from error


def _local(path: Path) -> list[SourceFile]:
    if path.is_file():
        return [_local_file(path, path.name)]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder", REMEDY)
    names = [(place.relative_to(path).as_posix(), place) for place in path.rglob("*") if place.is_file()]
    return [_local_file(place, name) for name, place in sorted(names) if not re.search(r"(^|/)\.", name)]


def _local_file(path: Path, name: str) -> SourceFile:
    status = path.stat()
    return SourceFile(name, str(path), (status.st_size, status.st_mtime_ns), lambda: path.open("rb"))


def _on_s3(path: str) -> list[SourceFile]:
    parent, _, name = path.rstrip("/").rpartition("/")
    if parent != "s3:/" and (store := Storage.open(parent)).exists(name):
        return [_s3_file(store, name, store.size(name))]
    store = Storage.open(path)
    return [_s3_file(store, key, size) for key, size in store.sizes().items()]


def _s3_file(store: Storage, key: str, size: int) -> SourceFile:
    return SourceFile(key, store.location(key), (size, 0), lambda: store.open_input(key))
