"""Which generator is in place and which one a rollback goes back to, read from a lineage's records alone.

A promotion adds its candidate to the line of generators; a rollback takes the last one away. The registry's aliases
`generator` and `previous` show the line's end.
"""

from infra.artifacts import Artifact
from infra.errors import RatchetError, StoreError
from infra.records import Records, RollbackRecord
from infra.tracking import Registry

ALIAS_GENERATOR, ALIAS_PREVIOUS = "generator", "previous"


def line_of_generators(records: Records, through: int | None = None) -> list[Artifact]:
    """The generators that rollbacks left, oldest first; the last one is in place. Empty before the first iteration.

    `through`: as it stood after that iteration, with the rollbacks before the next one's verdict.
    Raises StoreError for records that contradict one another.
    """
    first = records.get("iteration", 1)
    if first is None:
        return []
    line, rollbacks = [first.generator], records.all("rollback")
    for verdict in records.all("verdict"):
        if through is not None and verdict.number > through:
            break
        if verdict.verdict == "promote":
            line.append(verdict.candidate)
        for rollback in rollbacks:
            if rollback.after == verdict.number:
                line = _without_last(line, rollback)
    return line


def _without_last(line: list[Artifact], rollback: RollbackRecord) -> list[Artifact]:
    if line[-2:] != [rollback.target, rollback.source]:
        raise StoreError(
            f"rollback {rollback.sequence} goes from {rollback.source.uri} to {rollback.target.uri}, but the records "
            f"before it end with {[item.uri for item in line[-2:]]}",
            "restore the records from a backup, or start a new lineage with --fresh",
        )
    return line[:-1]


def take_back(records: Records, reason: str) -> RollbackRecord:
    """Record that the generator in place gives way to the one before it.

    Raises RatchetError where there is none before it.
    """
    line = line_of_generators(records)
    if len(line) < 2:
        raise RatchetError(
            f"there is no previous generator: {line[0].uri if line else 'nothing'} is the lineage's first",
            "a rollback undoes a promotion; `ratchet models` shows what was promoted",
        )
    sequence = len(records.all("rollback")) + 1
    after = len(records.all("verdict"))
    values = {"sequence": sequence, "after": after, "from": line[-1], "to": line[-2], "reason": reason}
    return records.put("rollback", sequence, RollbackRecord.model_validate(values))


def point_aliases(registry: Registry, line: list[Artifact]) -> None:
    """`generator` and `previous` as the line says; generators that are not registered yet are passed over."""
    versions = [version for item in line if (version := registry.version_of(item)) is not None]
    if versions:
        registry.set_alias(ALIAS_GENERATOR, versions[-1])
    if len(versions) > 1:
        registry.set_alias(ALIAS_PREVIOUS, versions[-2])
    else:
        registry.drop_alias(ALIAS_PREVIOUS)
