"""`ratchet export MODEL FILE.gguf`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.offline_model import offline_model_path
from models.gguf_file import GGUFFile


def test_a_llama_model_becomes_one_file(ratchet: Any, tmp_path: Path) -> None:
    target = tmp_path / "new" / "small.gguf"
    ended = ratchet("export", offline_model_path(), target, "--precision", "Q8_0", "--json")
    assert ended.code == 0, ended.err
    assert ended.document["files"] == ["small.gguf"] and ended.document["parameters"] == 134_515_008
    written = GGUFFile(target)
    assert written.metadata["general.license"] == "Apache-2.0"
    assert written.metadata["general.architecture"] == "llama"
    assert [path.name for path in target.parent.iterdir()] == ["small.gguf"]
    again = ratchet("export", offline_model_path(), target)
    assert again.code == 2 and "is a file" in again.err


def test_a_nemotron_model_is_refused(ratchet: Any, model_folder: Callable[[int], Path], tmp_path: Path) -> None:
    ended = ratchet("export", model_folder(1), tmp_path / "out.gguf")
    assert ended.code == 2 and "a nemotron model; expected llama" in ended.err
    assert not [*tmp_path.glob("*out.gguf*")]
