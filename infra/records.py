"""Immutable records of a project's wheel: records/<project>/<lineage>/<kind>-000003.json, each put once.

Kinds: an iteration (its plan, generator and base, pinned before any stage starts), a verdict, a promotion, a rollback.
What the registry shows is reconciled from these; they hold no store address, so that a copied store stays whole.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from textwrap import shorten
from typing import Any, Literal, Self, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field

from infra.artifacts import Artifact
from infra.errors import AlreadyExists, InputError, StoreError
from infra.identity import check_plain
from infra.settings import PROJECT_NAME
from infra.storage import Storage

ROOT = "records"
SCHEMA_VERSION = 1
LONGEST_VALUE = 200
"""Characters of a value in an error message."""
R = TypeVar("R", bound="Record")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    created: str = Field(default_factory=_now)
    """ISO 8601, UTC."""

    def portable(self) -> dict[str, Any]:
        """Plain JSON values; artifacts without their store's address."""
        stores = {name: {"store"} for name in self.artifacts()}
        return self.model_dump(mode="json", exclude=stores)  # type: ignore[arg-type]

    @classmethod
    def restored(cls, values: dict[str, Any], store: str) -> Self:
        """The inverse of `portable`, with the store where it was found."""
        for name, value in values.items():
            if isinstance(value, dict) and "fingerprint" in value:
                values = values | {name: value | {"store": store}}
        return cls.model_validate(values)

    def artifacts(self) -> dict[str, Artifact]:
        return {name: value for name, value in self if isinstance(value, Artifact)}


class IterationRecord(Record):
    number: int
    lineage: str
    plan_digest: str
    generator: Artifact
    """The model that writes this iteration's data."""
    base: Artifact
    """The pretrained checkpoint that this iteration aligns."""
    salt: str = ""


class VerdictRecord(Record):
    number: int
    verdict: Literal["promote", "keep", "insufficient"]
    candidate: Artifact
    generator: Artifact
    """The generator before."""
    next_generator: Artifact
    """The gate's choice: the candidate if promoted. A rollback may put another generator in place."""
    summary: dict[str, Any] = {}
    versions: dict[str, int] = {}
    """Of the code of each stage that led here; records from before this was kept have none."""


class PromotionRecord(Record):
    """The alias `generator` moves forward."""

    number: int
    """The iteration's."""
    source: Artifact | None = Field(None, validation_alias="from")
    """None for a project's first generator."""
    target: Artifact = Field(validation_alias="to")
    reason: str = ""


class RollbackRecord(Record):
    """The alias moves back on a person's request."""

    sequence: int
    """Counts the lineage's rollbacks from 1."""
    after: int
    """The last iteration that had a verdict; the next one may have been under way."""
    source: Artifact = Field(validation_alias="from")
    target: Artifact = Field(validation_alias="to")
    reason: str = ""


Kind = Literal["iteration", "verdict", "promotion", "rollback"]
KINDS: dict[Kind, type[Record]] = {
    "iteration": IterationRecord,
    "verdict": VerdictRecord,
    "promotion": PromotionRecord,
    "rollback": RollbackRecord,
}


class Records:
    """The records of one lineage of one project."""

    def __init__(self, store: Storage, project: str, lineage: str) -> None:
        self.store, self.key = store, f"{ROOT}/{_name('project', project)}/{_name('lineage', lineage)}"

    def put(self, kind: Kind, number: int, payload: R) -> R:
        """Write once; the same content again is fine and returns what was written first.

        Raises StoreError with what differs where this number has other content, InputError for a wrong payload.
        """
        self._check(kind, number, payload)
        key = self._key(kind, number)
        values = {"schema_version": SCHEMA_VERSION, "kind": kind} | payload.portable()
        check_plain(values, kind)
        try:
            self.store.create(key, json.dumps(values, indent=1, sort_keys=True, allow_nan=False).encode())
        except AlreadyExists:
            found = self._read(key, kind, type(payload))
            if differing := _differing(_content(found), _content(payload)):
                raise StoreError(
                    f"{self.store.location(key)} tells otherwise than this run: {differing}",
                    "records never change, and settings, inputs or Ratchet itself have changed since: start a new "
                    "lineage with --fresh, or go back to what the record was made with",
                ) from None
            return found
        return payload

    @overload
    def get(self, kind: Literal["iteration"], number: int) -> IterationRecord | None: ...
    @overload
    def get(self, kind: Literal["verdict"], number: int) -> VerdictRecord | None: ...
    @overload
    def get(self, kind: Literal["promotion"], number: int) -> PromotionRecord | None: ...
    @overload
    def get(self, kind: Literal["rollback"], number: int) -> RollbackRecord | None: ...
    def get(self, kind: Kind, number: int) -> Record | None:
        """None when there is no such record."""
        key = self._key(kind, number)
        return self._read(key, kind, KINDS[kind]) if self.store.exists(key) else None

    @overload
    def all(self, kind: Literal["iteration"]) -> list[IterationRecord]: ...
    @overload
    def all(self, kind: Literal["verdict"]) -> list[VerdictRecord]: ...
    @overload
    def all(self, kind: Literal["promotion"]) -> list[PromotionRecord]: ...
    @overload
    def all(self, kind: Literal["rollback"]) -> list[RollbackRecord]: ...
    def all(self, kind: Kind) -> Sequence[Record]:
        """Every record of `kind`, by number."""
        model = KINDS[_known(kind)]
        names = [name for name in self.store.children(self.key) if re.fullmatch(rf"{kind}-\d{{6}}\.json", name)]
        return [self._read(f"{self.key}/{name}", kind, model) for name in names]

    def _key(self, kind: Kind, number: int) -> str:
        if not 0 < number < 1_000_000:
            raise InputError(f"{kind} number {number}", "count from 1")
        return f"{self.key}/{_known(kind)}-{number:06d}.json"

    def _check(self, kind: Kind, number: int, payload: Record) -> None:
        own = payload.sequence if isinstance(payload, RollbackRecord) else getattr(payload, "number", None)
        if type(payload) is not KINDS[_known(kind)] or own != number:
            raise InputError(f"{type(payload).__name__} number {own} as {kind} {number}", "let kind and number agree")
        for name, artifact in payload.artifacts().items():
            if artifact.storage().uri != self.store.uri:
                raise InputError(f"{kind}: {name} lies in {artifact.store}", f"use artifacts in {self.store.uri}")

    def _read(self, key: str, kind: Kind, model: type[R]) -> R:
        try:
            values = json.loads(self.store.read(key))
            if values.pop("schema_version") != SCHEMA_VERSION or values.pop("kind") != kind:
                raise ValueError(f"expected a record of kind {kind} and schema version {SCHEMA_VERSION}")
            return model.restored(values, self.store.uri)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise StoreError(
                f"record {self.store.location(key)} cannot be read: {reason}",
                "restore it from a backup, or start a new lineage with --fresh",
            ) from error


def lineages(store: Storage, project: str) -> list[str]:
    """Names of the project's lineages, sorted."""
    return store.children(f"{ROOT}/{_name('project', project)}")


def _name(what: str, name: str) -> str:
    if not PROJECT_NAME.fullmatch(name):
        raise InputError(f"{what} {name!r}", "use 1–64 letters, digits, '.', '_' or '-', starting with letter or digit")
    return name


def _known(kind: Kind) -> Kind:
    if kind not in KINDS:
        raise InputError(f"no record of kind {kind!r}", f"use one of {sorted(KINDS)}")
    return kind


def _differing(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The fields that differ, with both values, cut where they are long; "" where none does."""
    names = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    return "; ".join(f"{name} {_short(found.get(name))}, not {_short(expected.get(name))}" for name in names)


def _short(value: Any) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), LONGEST_VALUE, placeholder=" …")


def _content(record: Record) -> dict[str, Any]:
    """What two writers must agree on: all but the clock, and the code as long as it comes to the same."""
    return {name: value for name, value in record.portable().items() if name not in ("created", "versions")}
