"""Fixtures that several folders of tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.offline_model import install_offline_model
from tests.s3_server import S3Server, Seaweed


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    seaweed = Seaweed(tmp_path_factory.mktemp("seaweed"))
    try:
        seaweed.start()
        yield seaweed.server
    finally:
        seaweed.kill()
        shutil.rmtree(seaweed.folder / "data", ignore_errors=True)


@pytest.fixture(scope="session")
def smollm_gguf() -> Path:
    """The real SmolLM2-135M-Instruct, as a GGUF file."""
    return install_offline_model()


@pytest.fixture(scope="session")
def smollm_folder(smollm_gguf: Path) -> Path:
    """Our import of the GGUF file, a Hugging Face folder; kept beside it, keyed by the importer's source."""
    import hashlib

    from models import gguf

    digest = hashlib.sha256(Path(gguf.__file__).read_bytes()).hexdigest()[:12]
    folder = smollm_gguf.parent / f"smollm2-{digest}"
    if not (folder / "model.safetensors").exists():
        gguf.import_gguf(smollm_gguf, folder)
    return folder
