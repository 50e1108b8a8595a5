"""Names that a user may give an artifact."""

from infra.artifacts import Artifact, addresses
from infra.errors import InputError
from infra.manifest import MANIFEST
from infra.storage import SEGMENT, Storage

CANDIDATES = 8
"""Most artifacts that an error lists."""


def find_artifact(text: str, store: str) -> Artifact:
    """The one artifact that a uri, `stage/fingerprint`, a fingerprint's beginning or a stage names.

    Raises InputError, with the candidates where several match.
    """
    root, marker, address = text.rstrip("/").removesuffix(f"/{MANIFEST}").rpartition("artifacts/")
    where = Storage.open(root) if marker and root else Storage.open(store)
    stage, _, prefix = address.rpartition("/")
    if not prefix or (stage and not SEGMENT.fullmatch(stage)):
        raise InputError(f"{text!r} is no artifact", "give a uri, stage/fingerprint or the fingerprint's first letters")
    known = addresses(where)
    found = [item for item in known if item[1].startswith(prefix) and stage in ("", item[0])]
    found = found or [item for item in known if not stage and item[0] == prefix]
    if len(found) != 1:
        some = ", ".join(f"{name}/{fingerprint}" for name, fingerprint in found[:CANDIDATES])
        problem = f"{len(found)} artifacts match {text!r}" if found else f"no artifact matches {text!r} in {where.uri}"
        raise InputError(problem, f"give one of {some}" if found else "`ratchet data ls` lists what is there")
    name, fingerprint = found[0]
    artifact = Artifact(stage=name, kind="unknown", fingerprint=fingerprint, store=where.uri)
    return artifact.model_copy(update={"kind": artifact.manifest().kind})
