"""When files of a store were last written."""

from collections.abc import Mapping
from datetime import UTC, datetime

from pyarrow.fs import FileSelector, FSSpecHandler, PyFileSystem

from infra.storage import Storage


def modified(store: Storage, prefix: str) -> Mapping[str, datetime]:
    """By key, of every file below the folder `prefix`."""
    filesystem, root = store.arrow(prefix)
    cut = len(root) - len(prefix)
    if isinstance(filesystem, PyFileSystem) and isinstance(filesystem.handler, FSSpecHandler):
        # pyarrow looks for "mtime", which S3's files do not have
        found = filesystem.handler.fs.find(root, detail=True)
        return {path[cut:]: info["LastModified"] for path, info in found.items() if info["type"] == "file"}
    infos = filesystem.get_file_info(FileSelector(root, allow_not_found=True, recursive=True))
    return {info.path[cut:]: info.mtime.astimezone(UTC) for info in infos if info.is_file and info.mtime}
