"""One seam over a local folder and S3: relative, "/"-separated keys and atomic writes.

A write is whole or absent, whatever is killed in between; `create` is conditional: of two writers one wins and the
other gets AlreadyExists. Listings are never served from a cache. A folder or bucket comes to be with its first write.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from pyarrow.fs import FileSystem

from infra.errors import AlreadyExists, InputError, StoreError
from infra.storage_folder import FolderBackend
from infra.storage_s3 import connect_s3

SEGMENT = re.compile(r"[A-Za-z0-9._=+@-]{1,200}")
LONGEST_KEY = 700
"""Characters; S3 allows 1024 bytes for key and prefix together."""


def check_key(key: str) -> str:
    """`key` itself; InputError when it is no plain relative path of letters, digits and `._=+@-`."""
    segments = key.split("/")
    if len(key) > LONGEST_KEY:
        raise InputError(f"storage key of {len(key)} characters: {key[:60]}…", f"use at most {LONGEST_KEY} characters")
    for segment in segments:
        if segment in (".", "..") or not SEGMENT.fullmatch(segment):
            raise InputError(
                f"storage key {key!r} has the part {segment!r}",
                "use a relative path whose parts are 1–200 letters, digits or ._=+@- and neither '.' nor '..'",
            )
    if segments[0] == FolderBackend.STAGING:
        raise InputError(
            f"storage key {key!r} starts with {segments[0]!r}", "this folder is kept for unfinished writes"
        )
    return key


class Backend(Protocol):
    """What a folder and S3 each do. A missing key raises FileNotFoundError, a taken one FileExistsError."""

    uri: str

    def location(self, key: str) -> str: ...
    def local_path(self, key: str) -> Path | None: ...
    def read(self, key: str) -> bytes: ...
    def size(self, key: str) -> int: ...
    def sizes(self, prefix: str) -> dict[str, int]: ...
    def children(self, prefix: str) -> list[str]: ...
    def put(self, key: str, data: bytes, create: bool) -> None: ...
    def put_file(self, local: Path, key: str, create: bool, consume: bool) -> None: ...
    def get_file(self, key: str, local: Path) -> None: ...
    def open_input(self, key: str) -> BufferedReader: ...
    def delete(self, key: str) -> None: ...
    def move(self, source: str, target: str) -> None: ...
    def arrow(self, key: str) -> tuple[FileSystem, str]: ...


class Storage:
    """A store at `uri`. Every method takes keys relative to it and raises StoreError or ServiceError with the place."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.uri = backend.uri

    @staticmethod
    def open(uri: str | Path) -> "Storage":
        """The store at "s3://bucket/prefix" (credentials and endpoint from the AWS_* variables) or in a folder.

        Raises InputError for another scheme, ServiceError when the S3 endpoint does not answer or refuses the key.
        """
        text = str(uri)
        if text.startswith("s3://"):
            bucket, _, prefix = text.removeprefix("s3://").strip("/").partition("/")
            if not bucket:
                raise InputError(f"store {text!r} names no bucket", "use s3://BUCKET or s3://BUCKET/PREFIX")
            return Storage(connect_s3(bucket, check_key(prefix) if prefix else ""))
        if "://" in text:
            raise InputError(f"store {text!r} has an unknown scheme", "use a folder or s3://BUCKET/PREFIX")
        return Storage(FolderBackend(Path(text).expanduser().absolute()))

    def __repr__(self) -> str:
        return f"Storage({self.uri!r})"

    def location(self, key: str) -> str:
        """Absolute path or s3:// address of `key`, which need not exist."""
        return self._backend.location(check_key(key))

    def local_path(self, key: str) -> Path | None:
        """The file itself where the store is a folder, else None."""
        return self._backend.local_path(check_key(key))

    def read(self, key: str) -> bytes:
        with self._missing(key):
            return self._backend.read(check_key(key))

    def read_if_exists(self, key: str) -> bytes | None:
        try:
            return self._backend.read(check_key(key))
        except FileNotFoundError:
            return None

    def exists(self, key: str) -> bool:
        """Whether there is a file at `key`; a folder is none."""
        try:
            self._backend.size(check_key(key))
        except FileNotFoundError:
            return False
        return True

    def size(self, key: str) -> int:
        """Bytes of the file at `key`."""
        with self._missing(key):
            return self._backend.size(check_key(key))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes by key of every file below the folder `prefix`, sorted; keys are relative to the store."""
        return dict(sorted(self._backend.sizes(check_key(prefix) if prefix else "").items()))

    def children(self, prefix: str = "") -> list[str]:
        """Names of the files and non-empty folders directly below the folder `prefix`, sorted.

        Some S3 servers go on naming a folder for a while after its last file has gone.
        """
        return sorted(self._backend.children(check_key(prefix) if prefix else ""))

    def list(self, prefix: str = "") -> list[str]:
        """Keys of every file below the folder `prefix`, sorted; unfinished writes are never among them."""
        return [*self.sizes(prefix)]

    def put(self, key: str, data: bytes) -> None:
        """Create or replace in one step."""
        self._backend.put(check_key(key), data, create=False)

    def create(self, key: str, data: bytes) -> None:
        """Create in one step; AlreadyExists when `key` is taken, whose content stays as it is."""
        with self._taken(key):
            self._backend.put(check_key(key), data, create=True)

    def put_file(self, local: Path, key: str, *, consume: bool = False) -> None:
        """Create or replace from a local file; `consume` lets a folder store take the file itself without a copy."""
        self._backend.put_file(_local_file(local), check_key(key), create=False, consume=consume)

    def create_file(self, local: Path, key: str) -> None:
        """Create from a local file; AlreadyExists when `key` is taken."""
        with self._taken(key):
            self._backend.put_file(_local_file(local), check_key(key), create=True, consume=False)

    def get_file(self, key: str, local: Path) -> None:
        """Copy to a local file, whole or not at all; folders above it are made."""
        with self._missing(key):
            self._backend.get_file(check_key(key), local)

    def open_input(self, key: str) -> BufferedReader:
        """A seekable binary stream; close it after use."""
        with self._missing(key):
            return self._backend.open_input(check_key(key))

    def delete(self, key: str) -> None:
        """Remove the file at `key`; one that is not there is no error."""
        self._backend.delete(check_key(key))

    def delete_folder(self, prefix: str) -> None:
        """Remove every file below the folder `prefix`."""
        for key in self.list(check_key(prefix)):
            self.delete(key)

    def move(self, source: str, target: str) -> None:
        """Rename; `target` is replaced. On S3 a copy, then a delete: a kill in between leaves both."""
        with self._missing(source):
            self._backend.move(check_key(source), check_key(target))

    def arrow(self, key: str) -> tuple[FileSystem, str]:
        """pyarrow's file system for this store, and the path of `key` in it: for libraries that write by themselves."""
        return self._backend.arrow(check_key(key))

    @contextmanager
    def _missing(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(f"no file {key!r} in the store {self.uri}", "check the name, or make it again") from error

    @contextmanager
    def _taken(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError as error:
            raise AlreadyExists(
                f"{self.location(key)} exists already", "read it instead: it is written once"
            ) from error


def _local_file(path: Path) -> Path:
    if not path.is_file():
        raise StoreError(f"no file {path} to put into the store", "check the name, or make it again")
    return path
