"""What artifacts of a store are needed for themselves; what those were made from is needed with them.

- what the records of all projects name; of an iteration with a verdict its examinations and its report, too
- every version in the registry; every model, where no registry has authority (deployments/known_versions.py)
- what is younger than the age limit
- work under way: what the settings of recent jobs name; and while an iteration has no verdict, all that was made since
  it began and what the settings of any job name. After `abandoned_after` it counts as abandoned.

With `keep_iterations` older iterations that were not promoted need all but their checkpoints.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from deployments.known_versions import Registered
from deployments.lineage import Manifests, inputs_of
from deployments.model_roles import RECORD, lineages_in
from deployments.modified import modified
from infra.errors import StoreError
from infra.records import ROOT, Records
from infra.storage import Storage
from tasks.configs.endpoint_model import EndpointModelConfig
from tasks.configs.import_model import ImportModelConfig
from tasks.configs.report import ReportConfig

BROUGHT_IN = {ImportModelConfig.stage, EndpointModelConfig.stage}
ADDRESS = re.compile(r"artifacts/[^/]+/([0-9a-f]{32})(?:/|$)")
NEVER = datetime.max.replace(tzinfo=UTC)
Iteration = tuple[str, str, int]
"""Project, lineage, number."""


@dataclass(frozen=True)
class Limits:
    """What stays though nothing needs it, and what may go though something does."""

    younger_than: timedelta
    """What is younger stays."""
    keep_iterations: int | None = None
    """Of each lineage's older iterations that were not promoted the checkpoints may go; None: of no iteration."""
    abandoned_after: timedelta = timedelta(days=14)
    """Work that was not finished may be taken up again for as long."""


@dataclass
class Needs:
    """Fingerprints of what is needed with all that it was made from."""

    whole: set[str] = field(default_factory=set)
    without_checkpoints: dict[str, str] = field(default_factory=dict)
    """Those of older iterations, with the iteration in words."""
    jobs: set[str] = field(default_factory=set)
    """Keys of the folders of jobs whose settings are needed."""
    since: datetime = NEVER
    """Unfinished files that were written to later may be taken up again."""
    notes: list[str] = field(default_factory=list)
    """Why more is kept than one may expect, for a person."""


def find_needs(
    store: Storage, manifests: Manifests, registered: Registered | None, limits: Limits, now: datetime
) -> Needs:
    """Raises StoreError where a record cannot be read."""
    needs, old = Needs(), older_iterations(store, limits.keep_iterations)
    need_records(store, manifests, needs, old)
    if registered is None:
        models = (name for name, (artifact, manifest) in manifests.items()
                  if manifest.kind == "checkpoint" or artifact.stage in BROUGHT_IN)  # fmt: skip
        needs.whole.update(models)
    else:
        need_versions(registered, needs, old)
    need_recent(store, manifests, needs, limits, now)
    return needs


def add(needs: Needs, name: str, words: str | None) -> None:
    """`words` say which older iteration it is of, None for any other reason."""
    if words is None:
        needs.whole.add(name)
    else:
        needs.without_checkpoints[name] = words


def need_records(store: Storage, manifests: Manifests, needs: Needs, old: Mapping[Iteration, str]) -> None:
    documents = [key for key in store.list(ROOT) if key.endswith(".json")]
    for key, record in read_all(store, documents, must=True):
        found = RECORD.fullmatch(key)
        if found is None or found["kind"] != "verdict":
            needs.whole.update(fingerprints_in(record))
    reported = set[Iteration]()
    begun = {(project, lineage, one.number) for project, lineage in lineages_in(store)
             for one in Records(store, project, lineage).all("iteration")}  # fmt: skip
    for name, (artifact, manifest) in manifests.items():
        iteration = tuple(manifest.recipe.get(part) for part in ("project", "lineage", "number"))
        if artifact.stage == ReportConfig.stage and iteration in begun:
            reported.add(iteration)  # type: ignore[arg-type]
            add(needs, name, old.get(iteration))  # type: ignore[arg-type]
    for project, lineage in lineages_in(store):
        for ended in Records(store, project, lineage).all("verdict"):
            iteration = (project, lineage, ended.number)
            names = {one.fingerprint for one in ended.artifacts().values()}
            if iteration not in reported:  # killed between the two: the report would name them
                names |= examinations_of(ended.candidate.fingerprint, manifests)
            for name in names:
                add(needs, name, old.get(iteration))


def examinations_of(candidate: str, manifests: Manifests) -> set[str]:
    """Evaluations of a checkpoint, and verdicts on these."""
    kinds = {name: manifest.kind for name, (_, manifest) in manifests.items()}
    users = defaultdict[str, set[str]](set)
    for name, (_, manifest) in manifests.items():
        for one in inputs_of(manifest):
            users[one].add(name)
    exams = {name for name in users[candidate] if kinds[name] in ("evaluation", "verdict")}
    return exams | {name for exam in exams for name in users[exam] if kinds[name] == "verdict"}


def need_versions(registered: Registered, needs: Needs, old: Mapping[Iteration, str]) -> None:
    for row in registered:
        tags, number = row["tags"], row["tags"].get("iteration", "")
        iteration = (row["name"], tags.get("lineage"), int(number)) if re.fullmatch(r"[0-9]{1,9}", number) else None
        words = None if row["aliases"] or iteration is None else old.get(iteration)  # type: ignore[arg-type]
        for name in named(row):
            add(needs, name, words)
        if not named(row):
            needs.notes.append(f"version {row['version']} of {row['name']} in the registry names no artifact")


def named(version: Mapping[str, Any]) -> set[str]:
    """Fingerprints, by a registered version's tag and by its address."""
    return {version["tags"].get("fingerprint", ""), *ADDRESS.findall(version["uri"])} - {""}


def need_recent(store: Storage, manifests: Manifests, needs: Needs, limits: Limits, now: datetime) -> None:
    abandoned = now - limits.abandoned_after
    open_since = begins_of_open_iterations(store, needs, abandoned)
    needs.since = min(now - limits.younger_than, abandoned, open_since)
    younger = min(now - limits.younger_than, open_since)
    needs.whole.update(name for name, (_, manifest) in manifests.items() if moment(manifest.created, NEVER) > younger)
    touched: dict[str, datetime] = {}
    for top in ("attempts", "artifacts"):
        for key, changed in modified(store, top).items():
            if len(parts := key.split("/")) > 2:
                touched[parts[2]] = max(changed, touched.get(parts[2], changed))
    jobs = modified(store, "jobs")
    specs = [key for key in jobs if key.endswith("/spec.json")]
    for key, spec in read_all(store, specs, must=False):
        names = {*fingerprints_in(spec)}
        times = [jobs[key], *(touched[name] for name in names if name in touched)]
        if max(times) > needs.since or open_since < now:
            needs.jobs.add(key.rpartition("/")[0])
            needs.whole |= names


def begins_of_open_iterations(store: Storage, needs: Needs, abandoned: datetime) -> datetime:
    """When the first of those that may go on began; the end of time where there is none."""
    first = NEVER
    for project, lineage in lineages_in(store):
        records = Records(store, project, lineage)
        ended = {verdict.number for verdict in records.all("verdict")}
        for begun in records.all("iteration"):
            if begun.number not in ended and (since := moment(begun.created, abandoned)) >= abandoned:
                first = min(first, since)
                needs.notes.append(
                    f"iteration {begun.number} of {project} (lineage {lineage}) has no verdict: all that was made since"
                    f" {since:%Y-%m-%d %H:%M} stays, as do the jobs' inputs (--abandoned-after)"
                )
    return first


def moment(created: str, otherwise: datetime) -> datetime:
    """A time without a zone counts as UTC, one that cannot be read as `otherwise`."""
    try:
        found = datetime.fromisoformat(created)
    except ValueError:
        return otherwise
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def older_iterations(store: Storage, keep: int | None) -> dict[Iteration, str]:
    """Iterations before each lineage's last `keep` that were not promoted, with words for each."""
    found = {}
    for project, lineage in lineages_in(store) if keep is not None else ():
        for verdict in Records(store, project, lineage).all("verdict")[: -(keep or 1)]:
            if verdict.verdict != "promote":
                words = f"checkpoint of {project} iteration {verdict.number} ({verdict.verdict}); a run of"
                found[project, lineage, verdict.number] = f"{words} lineage {lineage} would train it again"
    return found


def read_all(store: Storage, keys: Iterable[str], must: bool) -> Iterator[tuple[str, Any]]:
    """JSON documents; with `must` one that cannot be read raises StoreError, else it is passed over."""
    for key in keys:
        try:
            yield key, json.loads(store.read(key))
        except ValueError as error:
            if must:
                raise StoreError(
                    f"{store.location(key)} cannot be read: {error}",
                    "what it needs is not known: restore it from a backup, then try again",
                ) from error


def fingerprints_in(value: Any) -> Iterator[str]:
    """Of every artifact named anywhere in a JSON document."""
    if isinstance(value, Mapping):
        if isinstance(value.get("fingerprint"), str):
            yield value["fingerprint"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from fingerprints_in(item)
