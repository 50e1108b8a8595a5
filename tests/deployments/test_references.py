"""What a user may write for a model, and what is said where there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.references import resolve, with_weights
from infra.artifacts import Artifact, fingerprint_of
from infra.errors import InputError, RatchetError, ServiceError
from infra.output import Outcome, Output
from infra.storage import Storage
from tasks.configs.base import EndpointResources, Resources
from tasks.configs.endpoint_model import EndpointModelConfig, is_hosted
from tasks.configs.import_model import ImportModelConfig

Put = Callable[..., Artifact]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """`put(kind)`: an artifact with one file."""
    store = Storage.open(tmp_path / "store")

    def make(kind: str = "checkpoint") -> Artifact:
        address = Artifact(
            stage="sft", kind=kind, fingerprint=fingerprint_of("sft", 1, {"k": kind}, {}), store=store.uri
        )
        output = Output(address, store, lambda event: None, tmp_path)
        output.write_text("config.json", "{}")
        return output.commit(Outcome(), recipe={}, inputs={}, version=1, label="sft", device="", wall_s=0.0,
                             code_version="")  # fmt: skip

    return make


def test_an_artifacts_address_is_the_artifact(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = put()
    assert resolve(made.uri, None, tmp_path) == made == resolve(made.uri + "/", None, tmp_path)
    monkeypatch.chdir(tmp_path)
    relative = resolve(f"store/{made.key}", None, tmp_path)
    assert relative == made, "jobs run elsewhere: the store's place must not depend on the user's folder"


def test_an_address_without_a_whole_model_is_refused(put: Put, tmp_path: Path) -> None:
    made = put()
    with pytest.raises(InputError, match=r"manifest\.json is missing.*data verify"):
        resolve(f"{made.store}/artifacts/sft/{'0' * 32}", None, tmp_path)
    Path(made.uri, "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json is missing"):
        resolve(made.uri, None, tmp_path)
    with pytest.raises(InputError, match=r"is a dataset, not a model.*models:/NAME@ALIAS"):
        resolve(put("dataset").uri, None, tmp_path)


def test_a_file_or_folder_is_imported_if_it_is_a_model(
    smollm_gguf: Path, smollm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = resolve(str(smollm_gguf), None, tmp_path)
    assert (
        isinstance(found, ImportModelConfig) and found.format == "gguf" and found.source == str(smollm_gguf.resolve())
    )
    monkeypatch.chdir(smollm_folder.parent)
    folder = resolve(smollm_folder.name, None, tmp_path)
    assert isinstance(folder, ImportModelConfig) and folder.format == "hf" and Path(folder.source).is_absolute()


@pytest.mark.parametrize(
    ("reference", "words"),
    [("nowhere/model", "no model at 'nowhere/model': no such file or folder"),
     ("models:/wheel@generator", "no MLflow server is configured"),
     ("openai:http://127.0.0.1:1/v1", "names no model behind the URL"),
     ("openai:ftp://host/v1#weak", "is no http(s) URL"),
     ("openai:https://me:secret@host/v1#weak", "https://host/v1: a user, a password or a query has no place"),
     ("openai:https://host/v1?key=secret#weak", "https://host/v1: a user, a password or a query has no place"),
     ("openai:https://host:99999/v1#weak", "is no URL"),
     ("hf:no such name", "hf:no such name could not be fetched"),
     ("s3://", "names no bucket"),
     (".", "no model files")],
)  # fmt: skip
def test_what_is_no_model_is_named(reference: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        resolve(reference, None, tmp_path)
    assert words in error.value.message and error.value.remedy and "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_hosted_model_is_its_url_and_name(tmp_path: Path) -> None:
    found = resolve("openai:HTTPS://API.example.com:443/v1/#org/weak@2", None, tmp_path)
    assert isinstance(found, EndpointModelConfig)
    assert (found.url, found.model, found.revision) == ("https://api.example.com/v1", "org/weak@2", "")
    assert found.reference == "openai:https://api.example.com/v1#org/weak@2" and is_hosted(found)
    for other in ("openai:https://api.example.com/v2#org/weak@2", "openai:https://api.example.com/v1#org/weak@3",
                  "openai:https://api.example.com/v1#org/weak@2;revision=june"):  # fmt: skip
        another = resolve(other, None, tmp_path)
        assert isinstance(another, EndpointModelConfig) and another.recipe() != found.recipe()
        assert another.reference == other
    same = found.model_copy(update={"resources": Resources(endpoint=EndpointResources(concurrency=1, answer_price=3))})
    assert same.recipe() == found.recipe(), "how it is spoken to is no part of what it is"
    with pytest.raises(InputError, match=r"base=openai:x: a hosted model has no weights here.*hf:ORG/NAME"):
        with_weights("base", "openai:x", found)


def test_a_registry_that_does_not_answer_is_no_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="no MLflow server answers at http") as error:
        resolve("models:/wheel@generator", "http://127.0.0.1:9", tmp_path)
    assert isinstance(error.value, RatchetError) and error.value.exit_code == 1
