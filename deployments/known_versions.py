"""The registry that has authority over a store, asked without starting a server.

It is the configured one, or the workspace's own where the store is the workspace's own, too. A store elsewhere may be
known to a registry that is not configured here, so that no answer counts as the whole truth.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from infra.errors import ServiceError
from infra.settings import Settings
from infra.stack import Stack
from infra.tracking import registered_versions

Registered = Sequence[Mapping[str, Any]]
"""Rows of infra.tracking.registered_versions."""
DATABASE = "db/mlflow.db"
TABLES = {
    "versions": "SELECT name, version FROM model_versions WHERE current_stage != 'Deleted_Internal'",
    "tags": "SELECT name, version, key, value FROM model_version_tags",
    "aliases": "SELECT name, version, alias FROM registered_model_aliases",
}


def known_versions(settings: Settings) -> tuple[Registered | None, str]:
    """Every registered version; or None, and why no registry has authority.

    Raises ServiceError where there is one that does not answer.
    """
    if settings.mlflow_tracking_uri is not None:
        return registered_versions(settings.mlflow_tracking_uri), ""
    workspace = settings.workspace
    if Path(settings.store) != workspace / "store":  # also for s3://
        return None, "MLFLOW_TRACKING_URI is not set, and the store is not this workspace's own"
    if (uri := Stack(workspace).status().endpoints.mlflow_tracking_uri) is not None:
        return registered_versions(uri), ""
    if (workspace / DATABASE).exists():
        return read_database(workspace / DATABASE), ""
    return None, "this workspace has no registry"


def read_database(path: Path) -> Registered:
    """The versions in MLflow's database, which is opened for reading only."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = {name: database.execute(query).fetchall() for name, query in TABLES.items()}
    except sqlite3.Error as error:
        raise ServiceError(
            f"the registry's database {path} cannot be read: {error}", "start its server (`ratchet up`), and try again"
        ) from error
    rows = {
        (name, int(version)): {"name": name, "version": int(version), "aliases": [], "uri": "", "tags": {}}
        for name, version in found["versions"]
    }
    for name, version, key, value in found["tags"]:
        if (row := rows.get((name, int(version)))) is not None:
            row["tags"][key] = value
    for name, version, alias in found["aliases"]:
        if (row := rows.get((name, int(version)))) is not None:
            row["aliases"].append(alias)
    return [row | {"uri": row["tags"].get("uri", "")} for row in rows.values()]
