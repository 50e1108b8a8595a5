"""Fixtures that several folders of tests share."""

from pathlib import Path

import pytest

from infra.offline_model import install_offline_model


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
