"""Settings of bringing a model in from outside, and what its source must hold before anything is loaded."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from infra.errors import InputError
from models.folders import CONFIG_FILE, GENERATION_FILE, INDEX_FILE, check_folder
from models.tokenizer import TEMPLATE_FILE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE
from tasks.configs.base import Kind, StageConfig

Format = Literal["gguf", "hf"]
GGUF_MAGIC = b"GGUF"
MODEL_FILES = (
    CONFIG_FILE, GENERATION_FILE, INDEX_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, TEMPLATE_FILE, "*.safetensors",
)  # fmt: skip
"""What of a Hugging Face folder is read; a readme or a manifest beside it changes nothing."""


class ImportModelConfig(StageConfig):
    """A GGUF file or a Hugging Face folder becomes a checkpoint, identified by its content."""

    stage: ClassVar[str] = "import_model"
    module: ClassVar[str] = "tasks.import_model"
    kind: ClassVar[Kind] = "checkpoint"

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """`content_digest` of the source."""
    format: Format
    licence: str = ""
    """SPDX identifier of the weights' licence; "" takes what the file itself says."""
    source: str = Field(min_length=1)
    """Where the source lies on this machine; no part of what it is."""

    def recipe(self) -> dict[str, Any]:
        return {name: value for name, value in super().recipe().items() if name != "source"}

    @classmethod
    def of(cls, source: str | Path, licence: str = "") -> "ImportModelConfig":
        """The settings that import `source`, checked as `check_source` does."""
        path = Path(source).expanduser().resolve()
        return cls(digest=content_digest(path), format=check_source(path), licence=licence, source=str(path))


def check_source(path: str | Path) -> Format:
    """The format of a model at `path`, found from headers and small files in well under a second.

    Raises InputError for a path that holds no model, missing or damaged weights, an architecture that the decoder
    does not cover, or a tokenizer that belongs to another model.
    """
    path = Path(path)
    if path.is_dir():
        try:
            check_folder(path)
        except (FileNotFoundError, ValueError) as error:
            raise InputError(str(error), "give a folder with config.json, safetensors weights and tokenizer") from error
        return "hf"
    if not path.is_file():
        raise InputError(f"no model at {path}: no such file or folder", "give a Hugging Face folder or a GGUF file")
    with path.open("rb") as file:
        magic = file.read(len(GGUF_MAGIC))
    if magic != GGUF_MAGIC:
        raise InputError(
            f"{path} begins with {magic!r}, so it is no GGUF file", "give a Hugging Face folder or a GGUF file"
        )
    return "gguf"


def content_digest(path: str | Path) -> str:
    """SHA-256 of a file, or of the names and digests of a model folder's files, in hexadecimal.

    Equal for equal content wherever it lies. Raises InputError where there is nothing to read.
    """
    path = Path(path)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted({found for pattern in MODEL_FILES for found in path.glob(pattern) if found.is_file()})
    if not files:
        raise InputError(f"no model files at {path}", f"expected a GGUF file or a folder with {', '.join(MODEL_FILES)}")
    listing = "".join(f"{found.name} {content_digest(found)}\n" for found in files)
    return hashlib.sha256(listing.encode()).hexdigest()
