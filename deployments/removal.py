"""Deletes what was found to be garbage, one thing after another, and stops as soon as the store is written to."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from deployments.garbage import Garbage
from deployments.idle import check_unchanged
from infra.disk_errors import explained
from infra.storage import Storage

LOOK_EVERY_S = 1.0
"""A look at the whole store is a listing, which takes seconds where there are many files."""


def remove(
    store: Storage, items: Sequence[Garbage], seen: Mapping[str, datetime], tell: Callable[[str], None]
) -> Iterator[Garbage]:
    """Yields what has gone. A kill in between leaves files that no manifest names, which the next time finds.

    `seen` is what deployments.idle.written said before the garbage was looked for. Raises StoreError where something
    was written since.
    """
    looked = -LOOK_EVERY_S
    for item in items:
        tell(item.uri)
        if time.monotonic() - looked > LOOK_EVERY_S:
            check_unchanged(store, seen)
            looked = time.monotonic()
        if item.folder:
            check_unchanged(store, seen, (item.folder,))
        for key in item.keys:
            store.delete(key)
        if item.local is not None:
            remove_local(item.local)
        yield item


def remove_local(path: Path) -> None:
    """A file, a link itself, or a folder; what has vanished is no error."""
    with explained(path), suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
