"""The command line as a contract: its commands and options, its exit codes, and how little `--help` loads."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
import pytest
import yaml

from deployments.cli import COMMANDS, LazyCommand, cli
from deployments.deploy import Preset, append_iteration
from deployments.presets import PRESETS

ROOT = Path(__file__).parents[2]
PLAN = {"--preset", "--config", "--set", "--fresh"}
COMMON = {"--workspace", "--json", "--debug"}
SURFACE = {
    "run": PLAN | {"--iterations", "--dry-run"},
    "plan": PLAN | {"--iterations"},
    "up": {"--prefect-port", "--mlflow-port", "--ray-port"},
    "down": set(),
    "status": set(),
    "doctor": set(),
    "deploy": PLAN | {"--cron", "--timezone", "--name", "--collision"},
    "models": {"--project"},
    "rollback": {"--reason", "--project"},
    "export": {"model", "folder", "--precision"},
    "import": {"source", "--name", "--licence", "--alias"},
}
"""Options, and arguments by their name; every command has those in COMMON too. Changing one breaks someone's script."""


def load(name: str) -> click.Command:
    lazy = cli.commands[name]
    assert isinstance(lazy, LazyCommand)
    return lazy.make_context(name, [], resilient_parsing=True).command


def test_the_commands() -> None:
    assert set(COMMANDS) == set(SURFACE) | {"data", "eval", "chat", "reward", "report", "serve"}


@pytest.mark.parametrize("name", SURFACE)
def test_the_options(name: str) -> None:
    command = load(name)
    assert command.name == name
    assert {max(parameter.opts, key=len) for parameter in command.params} == SURFACE[name] | COMMON
    assert (command.help or "").startswith(COMMANDS[name][1]), "the list and the command say the same"


def test_help_loads_next_to_nothing() -> None:
    code = (
        "import sys; from deployments.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        "heavy = {'torch', 'ray', 'prefect', 'mlflow', 'pyarrow', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    said = ran(code)
    assert all(f"  {name} " in said for name in COMMANDS)


def test_a_command_that_computes_nothing_loads_no_torch() -> None:
    code = (
        "import sys, importlib\n"
        "for name in ('stack', 'models', 'plan', 'deploy'):\n"
        "    importlib.import_module(f'deployments.commands.{name}')\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name} pulls torch in')"
    )
    ran(code)


def ran(code: str) -> str:
    """What a Python of its own prints; it must end well."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_form_offers_every_preset() -> None:
    assert set(get_args(Preset)) == set(PRESETS)
    file = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
    assert [item["name"] for item in file["deployments"]] == [
        item["parameters"]["preset"] for item in file["deployments"]
    ]
    assert {item["name"] for item in file["deployments"]} == set(PRESETS)
    assert {item["entrypoint"] for item in file["deployments"]} == {
        f"deployments.deploy.{append_iteration.fn.__name__}"
    }


# What needs no server.


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_in_use_is_an_error_before_anything_starts(ratchet: Any, workspace: Path) -> None:
    with taken_port() as port:
        ended = ratchet("up", "--mlflow-port", port, "--json")
    assert ended.code == 1 and f"port {port} for mlflow is in use" in ended.err
    assert "--mlflow-port" in ended.document["error"]["remedy"]
    assert not (workspace / "stack.json").exists()


def test_nothing_runs(ratchet: Any, workspace: Path) -> None:
    assert ratchet("status", "--json").document == {
        "mode": "down", "workspace": str(workspace), "pid": None, "started": None, "services": [],
        "prefect_api_url": None, "mlflow_tracking_uri": None, "ray_address": None,
    }  # fmt: skip
    assert ratchet("down", "--json").document == {"workspace": str(workspace), "stopped": False}
    assert ratchet("models", "--json").document == []
    ended = ratchet("rollback", "--json")
    assert ended.code == 2 and "no projects have iterations" in ended.document["error"]["message"]
    ended = ratchet("deploy", "--preset", "tiny", "--json")
    assert ended.code == 1 and "ratchet up" in ended.document["error"]["remedy"]
    assert not workspace.exists(), "looking must not make a workspace"


def test_doctor_fails_for_what_is_needed_only(ratchet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = {check["name"] for check in ratchet("doctor", "--json").document["checks"] if not check["needed"]}
    assert {"gpu", "browser", "sandbox"} <= lost
    with taken_port() as port:
        closed = port
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed}")
    ended = ratchet("doctor", "--json")
    bad = [check["name"] for check in ended.document["checks"] if check["needed"] and not check["ok"]]
    assert ended.code == 1 and "MLFLOW_TRACKING_URI" in bad and ended.document["ok"] is False
    assert "✗ MLFLOW_TRACKING_URI" in ratchet("doctor").out


def test_models_reads_a_registry_that_no_server_runs_for(
    ratchet: Any, model_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow is started for the command and gone after it; so it is after `ratchet run`, too."""
    row = ratchet("import", model_folder(0), "--name", "guest", "--json").document
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # where MLflow keeps what this process told it
    assert ratchet("models", "--json").document == [row]
    assert ratchet("status", "--json").document["mode"] == "down"
    assert json.loads((Path(row["uri"]) / "manifest.json").read_text())["fingerprint"] == row["tags"]["fingerprint"]


def test_ctrl_c_ends_with_130_and_leaves_nothing(ratchet: Any, workspace: Path) -> None:
    command = [Path(sys.executable).parent / "ratchet", "up", "--workspace", workspace]
    ports = ["--prefect-port", "31841", "--mlflow-port", "31842", "--ray-port", "31843"]
    process = subprocess.Popen([*command, *ports], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "starting ray" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert ratchet("status", "--json").document["mode"] == "down"
