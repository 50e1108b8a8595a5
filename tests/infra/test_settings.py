"""Every variable: its default, its override, and what a wrong value says."""

from pathlib import Path

import pytest

from infra.errors import InputError
from infra.settings import Settings, serve_token, workspace_path

VARIABLES = ["RATCHET_WORKSPACE", "RATCHET_STORE", "RATCHET_PROJECT", "PREFECT_API_URL", "MLFLOW_TRACKING_URI",
             "RAY_ADDRESS"]  # fmt: skip


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults(tmp_path: Path) -> None:
    settings = Settings.from_env()
    assert settings.workspace == tmp_path / ".ratchet"
    assert settings.store == str(tmp_path / ".ratchet" / "store")
    assert settings.project is settings.prefect_api_url is settings.mlflow_tracking_uri is settings.ray_address is None
    assert not settings.workspace.exists()


def test_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = ["work", "s3://bucket/x/", "p-1", "http://127.0.0.1:4200/api/", "https://mlflow:5000", "http://head:8265"]
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    settings = Settings.from_env()
    assert settings.workspace == workspace_path() == tmp_path / "work"
    assert (settings.store, settings.project) == ("s3://bucket/x", "p-1")
    assert settings.prefect_api_url == "http://127.0.0.1:4200/api"
    assert (settings.mlflow_tracking_uri, settings.ray_address) == ("https://mlflow:5000", "http://head:8265")


def test_overrides_win_and_none_is_not_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RATCHET_WORKSPACE", "from-variable")
    monkeypatch.setenv("RATCHET_PROJECT", "from-variable")
    settings = Settings.from_env(workspace=tmp_path / "given", project=None)
    assert settings.workspace == tmp_path / "given"
    assert settings.store == str(tmp_path / "given" / "store")
    assert settings.project == "from-variable"


def test_empty_counts_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, " ")
    assert Settings.from_env() == Settings(workspace=tmp_path / ".ratchet", store=str(tmp_path / ".ratchet" / "store"))


def test_store_folders_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RATCHET_STORE", "mine/store")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Settings.from_env().store == str(tmp_path / "mine" / "store")
    assert Settings.from_env(store="~/store").store == str(tmp_path / "home" / "store")


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("RATCHET_STORE", "gs://bucket", "s3://BUCKET/PREFIX"),
        ("RATCHET_STORE", "s3://", "s3://BUCKET"),
        ("RATCHET_PROJECT", "my project", "letters, digits"),
        ("RATCHET_PROJECT", "../x", "letters, digits"),
        ("PREFECT_API_URL", "127.0.0.1:4200", r"http://127\.0\.0\.1"),
        ("MLFLOW_TRACKING_URI", "sqlite:///x.db", "http://"),
        ("RAY_ADDRESS", "127.0.0.1:6379", r"job server.*http://127\.0\.0\.1:8265"),
        ("RAY_ADDRESS", "ray://head:10001", "job server"),
        ("RAY_ADDRESS", "auto", "job server"),
    ],
)
def test_wrong_values(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, remedy: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=rf"{variable} is '{value}'.*{remedy}"):
        Settings.from_env()


def test_workspace_is_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RATCHET_WORKSPACE", "file")
    with pytest.raises(InputError, match=r"RATCHET_WORKSPACE is .*file, which is a file"):
        Settings.from_env()


def test_unknown_setting() -> None:
    with pytest.raises(InputError, match=r"no such setting: \['stor'\].*'store'"):
        Settings.from_env(stor="x")


def test_closed_and_frozen() -> None:
    with pytest.raises(ValueError, match="extra"):
        Settings(workspace=Path("/w"), store="/s", other=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="frozen"):
        Settings(workspace=Path("/w"), store="/s").store = "x"  # type: ignore[misc]


def test_the_servers_token_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RATCHET_SERVE_TOKEN", raising=False)
    assert serve_token() is None
    monkeypatch.setenv("RATCHET_SERVE_TOKEN", " s3cret ")
    token = serve_token()
    assert token is not None and token.get_secret_value() == "s3cret" and "s3cret" not in f"{token!r} {token}"
    monkeypatch.setenv("RATCHET_SERVE_TOKEN", "two words")
    with pytest.raises(InputError, match="RATCHET_SERVE_TOKEN holds blanks") as refused:
        serve_token()
    assert "two words" not in str(refused.value)
