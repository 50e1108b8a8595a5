"""A process's own folder for unfinished work, on the workspace's disk; those of killed processes are removed."""

import os
import shutil
import tempfile
from pathlib import Path

from infra.disk_errors import explained


class Scratch:
    """`root`/<name>-<process id>-…/, made at once, with numbered empty folders in it."""

    def __init__(self, root: Path, name: str) -> None:
        with explained(root):
            root.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned(root)
            self.path = Path(tempfile.mkdtemp(prefix=f"{name}-{os.uname().nodename}-{os.getpid()}-", dir=root))

    def folder(self) -> Path:
        with explained(self.path):
            return Path(tempfile.mkdtemp(dir=self.path))

    def write(self, path: Path, data: bytes) -> None:
        """Create or replace `path`, with the folders above it."""
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def drop(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _remove_abandoned(self, root: Path) -> None:
        """Folders of processes of this machine that are no more."""
        for folder in root.iterdir():
            _, host, rest = folder.name.partition(f"-{os.uname().nodename}-")
            process = rest.split("-")[0]
            if host and process.isdigit() and not _alive(int(process)):
                shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
