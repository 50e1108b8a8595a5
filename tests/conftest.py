"""Fixtures that several folders of tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers

from infra.offline_model import install_offline_model
from models.chat import CHATML_TEMPLATE
from models.tokenizer import Tokenizer
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
def tokenizer() -> Tokenizer:
    """One token for each byte, and ChatML's special tokens."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    end = backend.token_to_id("<|endoftext|>")
    return Tokenizer(backend, CHATML_TEMPLATE, bos_id=None, eos_id=end, pad_id=end)


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
