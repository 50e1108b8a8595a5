"""Model references, wherever a user names a model: `models:/…`, a folder, a GGUF file, `s3://…`, `hf:ORG/NAME`.

A generator may be a hosted model too: `openai:URL#NAME`.
"""

import re
import tempfile
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from infra.artifacts import Artifact
from infra.errors import InputError
from infra.storage import Storage
from infra.tracking import resolve_reference
from tasks.configs.endpoint_model import PREFIX, EndpointModelConfig, is_hosted
from tasks.configs.import_model import ImportModelConfig

Source = Artifact | ImportModelConfig | EndpointModelConfig
FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION, a folder, a GGUF file, s3://…, or hf:ORG/NAME"
ARTIFACT_URI = re.compile(r"(?P<store>.+)/artifacts/(?P<stage>[^/]+)/(?P<fingerprint>[0-9a-f]{32})/?")


def resolve(reference: str, tracking_uri: str | None, cache: Path) -> Source:
    """What a reference names: an artifact that is there, or the settings that import it or tell where it is hosted.

    Raises InputError when there is no such model or its files do not fit together, before anything is loaded.
    """
    if reference.startswith("models:/"):
        return from_registry(reference, tracking_uri)
    if reference.startswith(PREFIX):
        return EndpointModelConfig.of(reference)
    if match := ARTIFACT_URI.fullmatch(reference):
        return checkpoint(reference, match)
    if reference.startswith("hf:"):
        return ImportModelConfig.of(download(reference.removeprefix("hf:")))
    if reference.startswith("s3://"):
        return ImportModelConfig.of(fetch(reference, cache))
    if not Path(reference).expanduser().exists():
        raise InputError(f"no model at {reference!r}: no such file or folder", f"give {FORMS}")
    return ImportModelConfig.of(reference)


def with_weights(field: str, reference: str, source: Source) -> Artifact | ImportModelConfig:
    """A model whose weights can be had. Raises InputError, naming the field, for a hosted one."""
    if isinstance(source, EndpointModelConfig) or is_hosted(source):
        raise InputError(
            f"{field}={reference}: a hosted model has no weights here; it can write data and be examined, and no more",
            f"give {FORMS}",
        )
    return source


def from_registry(reference: str, tracking_uri: str | None) -> Artifact:
    """The artifact that a registered version points at."""
    if tracking_uri is None:
        raise InputError(f"{reference}: no MLflow server is configured", "start one with `ratchet up`")
    tags = resolve_reference(tracking_uri, reference)
    match = ARTIFACT_URI.fullmatch(tags.get("uri", ""))
    if match is None:
        raise InputError(f"{reference} points at {tags.get('uri')!r}, no artifact of ours", "register it again")
    return checkpoint(reference, match)


def checkpoint(reference: str, match: re.Match[str]) -> Artifact:
    """The checkpoint at an artifact's address; its store's folder may be given relative to where the user is."""
    address = match.groupdict() | {"store": Storage.open(match["store"]).uri}
    artifact = Artifact(kind="checkpoint", **address)
    problems = artifact.check()
    if problems:
        file, reason = problems[0]
        raise InputError(f"{reference}: {artifact.uri}/{file} is {reason}", "run `ratchet data verify`")
    kind = artifact.manifest().kind
    if kind != artifact.kind:
        raise InputError(f"{reference} is a {kind}, not a model", f"give {FORMS}")
    return artifact


def download(name: str) -> Path:
    """A model of the Hugging Face hub, in its cache (HF_HOME)."""
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"hf:{name} could not be fetched: {reason}", "check the name, the network and HF_TOKEN"
        ) from error


def fetch(reference: str, cache: Path) -> Path:
    """A model folder on S3, copied into the workspace's cache."""
    storage = Storage.open(reference)
    keys = storage.list()
    if not keys:
        raise InputError(f"no files under {reference}", f"give {FORMS}")
    cache.mkdir(parents=True, exist_ok=True)
    target = Path(tempfile.mkdtemp(prefix="model-", dir=cache))
    for key in keys:
        storage.get_file(key, target / key)
    return target
