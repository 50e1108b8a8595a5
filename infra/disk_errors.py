"""What a failing disk says, in words: a full or read-only disk, missing rights, a file where a folder should be."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import StoreError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

REMEDIES = {
    errno.ENOSPC: ("no space left on the disk", "free some space or put the store on another disk"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or put the store on another disk"),
    errno.EFBIG: ("the file is larger than this system or process may write", "raise the limit (`ulimit -f`)"),
    errno.EACCES: ("permission denied", "give this user the right to write there, or choose another RATCHET_STORE"),
    errno.EPERM: ("not permitted", "put the store on a file system with hard links that this user may write"),
    errno.EOPNOTSUPP: ("the file system has no hard links", "choose another RATCHET_STORE"),
    errno.EROFS: ("the file system is read-only", "choose another RATCHET_STORE"),
    errno.ENOTDIR: ("a file lies where a folder is needed", "choose another RATCHET_STORE, or move that file away"),
    errno.EISDIR: ("a folder lies where a file is needed", "move that folder away"),
    errno.ENOTEMPTY: ("a folder lies where a file is needed", "move that folder away"),
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a system error about `path` into a StoreError; missing and existing files pass through."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        what, remedy = REMEDIES.get(error.errno or 0, (error.strerror or str(error), "check the disk"))
        raise StoreError(f"{what} at {path}", remedy) from error
