"""A store on S3 through s3fs. Credentials and endpoint come from the standard AWS_* variables.

Requests time out and are repeated by s3fs (twice) alone; the listing cache is off, so that what another process wrote
is seen at once. S3 puts are atomic by themselves; a conditional put sends If-None-Match.
"""

import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

from infra.disk_errors import DISK_FULL, explained
from infra.errors import RatchetError, ServiceError

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 20
PROBE_TIMEOUT_S = 6
"""An endpoint that has not answered its first request by then is called unreachable."""
ATTEMPTS = 3
CHUNK_BYTES = 8 << 20
"""Part of a multipart upload: small enough for READ_TIMEOUT_S on a slow line."""
CONNECTION_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
                        "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION")  # fmt: skip


def connect_s3(bucket: str, prefix: str) -> "S3Backend":
    """The bucket behind a connection that is shared within this process; ServiceError when it does not answer."""
    variables = tuple(os.environ.get(name) for name in CONNECTION_VARIABLES)
    return _connect(bucket, prefix, os.getpid(), variables)


@lru_cache(maxsize=32)
def _connect(bucket: str, prefix: str, process: int, variables: tuple[str | None, ...]) -> "S3Backend":
    """`process` and `variables` are what a connection may not outlive: forks and other credentials."""
    backend = S3Backend(_client(process, variables), bucket, prefix)
    backend.probe()
    return backend


@lru_cache(maxsize=8)
def _client(process: int, variables: tuple[str | None, ...]) -> Any:
    """The s3fs file system; it connects with the first request."""
    timeouts = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S}
    client = fsspec.filesystem(
        "s3",
        skip_instance_cache=True,
        use_listings_cache=False,
        max_concurrency=4,
        config_kwargs=timeouts | {"retries": {"total_max_attempts": 1}},
    )
    client.retries = ATTEMPTS
    return client


class S3Backend:
    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.root = f"{bucket}/{prefix}" if prefix else bucket
        self.uri = f"s3://{self.root}"
        self.address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS S3"
        self._fs = client

    def probe(self) -> None:
        """One request against the bucket, which may not exist yet."""
        with self._explained():
            try:
                self._fs.call_s3("head_bucket", Bucket=self.bucket, timeout=PROBE_TIMEOUT_S)
            except FileNotFoundError:
                return

    def location(self, key: str) -> str:
        return f"s3://{self._path(key)}"

    def local_path(self, key: str) -> Path | None:
        return None

    def arrow(self, key: str) -> tuple[FileSystem, str]:
        return PyFileSystem(FSSpecHandler(self._fs)), self._path(key)

    def read(self, key: str) -> bytes:
        with self._explained():
            return self._fs.cat_file(self._path(key))

    def size(self, key: str) -> int:
        with self._explained():
            info = self._fs.info(self._path(key))
        if info["type"] != "file":
            raise FileNotFoundError(errno.ENOENT, "a folder, not a file", key)
        return info["size"]

    def sizes(self, prefix: str) -> dict[str, int]:
        below = self._path(prefix) if prefix else self.root
        try:
            with self._explained():
                found = self._fs.find(below, detail=True)
        except FileNotFoundError:
            return {}
        return {
            path.removeprefix(self.root + "/"): info["size"]
            for path, info in found.items()
            if info["type"] == "file" and path.startswith(below + "/")
        }

    def children(self, prefix: str) -> list[str]:
        below = self._path(prefix) if prefix else self.root
        try:
            with self._explained():
                found = self._fs.ls(below, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        names = {path.removeprefix(below + "/").strip("/") for path in found if path.startswith(below + "/")}
        return [name for name in names if name]

    def put(self, key: str, data: bytes, create: bool) -> None:
        self._write("pipe_file", data, key, create)

    def put_file(self, local: Path, key: str, create: bool, consume: bool) -> None:
        self._write("put_file", str(local), key, create)

    def get_file(self, key: str, local: Path) -> None:
        staged = local.with_name(f".{local.name}.{secrets.token_hex(4)}")
        with explained(local):
            local.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self._explained():
                    self._fs.get_file(self._path(key), str(staged))
                staged.replace(local)
            finally:
                staged.unlink(missing_ok=True)

    def open_input(self, key: str) -> io.BufferedReader:
        self.size(key)
        with self._explained():
            stream = self._fs.open(self._path(key), "rb", block_size=CHUNK_BYTES)
        return io.BufferedReader(_ExplainedStream(self, stream), 1 << 16)

    def delete(self, key: str) -> None:
        with self._explained():
            try:
                self._fs.rm_file(self._path(key))
            except FileNotFoundError:
                return

    def move(self, source: str, target: str) -> None:
        with self._explained():
            self._fs.cp_file(self._path(source), self._path(target))
        self.delete(source)

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _write(self, method: str, content: bytes | str, key: str, create: bool) -> None:
        path = self._path(key)
        first, second = (path, content) if method == "pipe_file" else (content, path)
        options: dict[str, Any] = {"mode": "create" if create else "overwrite", "chunksize": CHUNK_BYTES}
        with self._explained():
            try:
                try:
                    getattr(self._fs, method)(first, second, **options)
                except FileNotFoundError:  # the bucket: made with the first write, as a folder is
                    self._fs.call_s3("create_bucket", Bucket=self.bucket)
                    getattr(self._fs, method)(first, second, **options)
            except OSError as error:
                # s3fs reports a failed If-None-Match as EINVAL, which other bad requests are too.
                if create and error.errno == errno.EINVAL and self._fs.exists(path):
                    raise FileExistsError(errno.EEXIST, "exists already", path) from error
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Whatever goes wrong in the client becomes a ServiceError; missing and existing keys pass through."""
        try:
            yield
        except (FileNotFoundError, FileExistsError, RatchetError):
            raise
        except PermissionError as error:
            raise ServiceError(
                f"S3 at {self.address} refused access to s3://{self.bucket}: {error}",
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what this key may do",
            ) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise  # this machine's disk, while downloading
            reason = str(error).partition("\n")[0] or f"{type(error).__name__}, no answer in time"
            raise ServiceError(
                f"S3 at {self.address} failed for {self.uri}: {reason}",
                "check that the server runs, AWS_ENDPOINT_URL, the AWS credentials and the network",
            ) from error


class _ExplainedStream(io.RawIOBase):
    """A remote file whose read errors name the endpoint."""

    def __init__(self, backend: S3Backend, stream: Any) -> None:
        self._backend, self._stream = backend, stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: Any) -> int:
        with self._backend._explained():
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
