"""What a checkpoint is to the projects of a store: by their records, and by the registry where its server runs."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from infra.records import ROOT, Records
from infra.settings import PROJECT_NAME
from infra.storage import Storage
from infra.tracking import registered_versions

Roles = Mapping[str, list[dict[str, Any]]]
NAME = PROJECT_NAME.pattern
RECORD = re.compile(rf"{ROOT}/(?P<project>{NAME})/(?P<lineage>{NAME})/(?P<kind>[a-z]+)-(?P<number>[0-9]{{6}})\.json")


def lineages_in(store: Storage) -> list[tuple[str, str]]:
    """Project and lineage, sorted, of all that have a record; whatever else lies there is none."""
    found = filter(None, map(RECORD.fullmatch, store.list(ROOT)))
    return sorted({(record["project"], record["lineage"]) for record in found})


def roles_in_records(store: Storage) -> Roles:
    """By fingerprint: {"project", "lineage", "iteration", "role"}, with "verdict" for a candidate."""
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for project, lineage in lineages_in(store):
        records = Records(store, project, lineage)
        place = {"project": project, "lineage": lineage}
        for begun in records.all("iteration"):
            for role in ("base", "generator"):
                entry = place | {"iteration": begun.number, "role": role}
                found[getattr(begun, role).fingerprint].append(entry)
        for ended in records.all("verdict"):
            entry = place | {"iteration": ended.number, "role": "candidate", "verdict": ended.verdict}
            found[ended.candidate.fingerprint].append(entry)
    return found


def roles_in_registry(uri: str) -> Roles:
    """By fingerprint: {"version": "models:/NAME/VERSION", "aliases"}. Raises ServiceError where no server answers."""
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in registered_versions(uri):
        entry = {"version": f"models:/{row['name']}/{row['version']}", "aliases": row["aliases"]}
        found[row["tags"].get("fingerprint", "")].append(entry)
    return found
