"""Bad input to `ratchet run`: one line with the remedy, before any server starts and with nothing made."""

import gzip
import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.ports import free_ports
from tests.own_texts import write_example
from tests.s3_server import S3Server

GOOD_ROW = {"prompt": "Why is the sky blue?", "response": "Because of scattered light.", "helpfulness": 4,
            "correctness": 4, "coherence": 4, "complexity": 2, "verbosity": 1}  # fmt: skip


@pytest.fixture
def refused(ratchet: Any, workspace: Path) -> Callable[..., str]:
    """`refused(2, "--preset", "tiny", …)` runs, expects that exit code, and returns the one line that was printed."""

    def run(code: int, *arguments: str) -> str:
        ended = ratchet("run", *arguments, "--json")
        (line,) = ended.err.strip().splitlines()
        assert ended.code == code, line
        assert set(ended.document["error"]) == {"stage", "message", "remedy"} and ended.document["error"]["remedy"]
        assert not workspace.exists() or not any(workspace.iterdir()), "nothing may be made or started"
        return line

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "smolm"], ["smolm", "did you mean 'smollm'"]),
        (["--set", "general_sft.learnin_rate=1"], ["general_sft.learnin_rate", "learning_rate"]),
        (["--set", "general_sft.learning_rate=-1"], ["general_sft.learning_rate", "-1", "greater than"]),
        (["--set", "general_sft.epochs=many"], ["general_sft.epochs", "many"]),
        (["--set", "preference_tuning.2.distance=sideways"], ["preference_tuning.2.distance", "backward_kl"]),
        (["--iterations", "0"], ["--iterations 0"]),
        (["--set", "base=/no/such/model"], ["/no/such/model", "no such file or folder"]),
        (["--config", "/no/such/plan.yaml"], ["/no/such/plan.yaml"]),
    ],
)
def test_settings(refused: Callable[..., str], arguments: list[str], words: list[str]) -> None:
    line = refused(2, *arguments)
    assert all(word in line for word in words), line


def test_a_folder_without_weights(refused: Callable[..., str], model_folder: Callable[[int], Path]) -> None:
    folder = model_folder(1)
    (folder / "model.safetensors").unlink()
    assert str(folder) in (line := refused(2, "--set", f"base={folder}")) and "safetensors" in line


def test_a_tokenizer_that_is_not_the_model_s(
    refused: Callable[..., str], model_folder: Callable[[int], Path], smollm_folder: Path
) -> None:
    folder = model_folder(1)
    shutil.copy(smollm_folder / "tokenizer.json", folder / "tokenizer.json")
    assert "tokenizer" in (line := refused(2, "--set", f"base={folder}")) and str(folder) in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"{json.dumps(GOOD_ROW)}\n{json.dumps(GOOD_ROW)[:40]}\n", "row 2"),
        (f"{json.dumps(GOOD_ROW)}\n{json.dumps(GOOD_ROW | {'helpfulness': 'much'})}\n", "helpfulness"),
        ("", "0 rows"),
    ],
)
def test_a_data_file_with_a_bad_row(refused: Callable[..., str], tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress(content.encode()))
    line = refused(2, "--set", f"attributes.helpsteer2={path}")
    assert str(path) in line and words in line


def test_no_such_data_file(refused: Callable[..., str]) -> None:
    assert "/no/such.jsonl" in refused(2, "--set", "attributes.helpsteer2=/no/such.jsonl")


def test_own_texts_that_cannot_be_read(refused: Callable[..., str], tmp_path: Path) -> None:
    config = write_example(tmp_path / "data")
    (tmp_path / "data" / "questions.jsonl").write_text('{"txt": "no text"}\n')
    line = refused(2, "--config", str(config))
    assert "pretraining.continued_documents.questions" in line and "questions.jsonl, row 1" in line, line


@pytest.mark.parametrize("variable", ["PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"])
def test_a_server_that_does_not_answer(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    address = f"http://127.0.0.1:{free_ports(1)[0]}" + ("/api" if variable == "PREFECT_API_URL" else "")
    monkeypatch.setenv(variable, address)
    line = refused(1, "--preset", "tiny")
    assert variable in line and address in line and "start that server" in line


def test_an_s3_store_that_does_not_answer(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{free_ports(1)[0]}"
    for name, value in S3Server(address, "key", "secret").variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RATCHET_STORE", "s3://bucket/wheel")
    assert address in refused(1, "--preset", "tiny")


def test_s3_with_the_wrong_key(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, s3_server: S3Server
) -> None:
    for name, value in S3Server(s3_server.endpoint, s3_server.access_key, "wrong").variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RATCHET_STORE", "s3://ratchet-tests/wheel")
    assert "AWS_" in refused(1, "--preset", "tiny")


def test_a_full_disk(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("infra.doctor.shutil.disk_usage", lambda path: usage(10**11, 10**11, 10**6))
    assert "0.0 GB free" in (line := refused(1, "--preset", "tiny")) and "needs 4 GB" in line
