"""The driver of a Ray job: `python -P -m tasks.job SPEC` runs a short chain of stages, each to its own manifest.

SPEC is the location of a JSON document: {"store", "workspace", "threads", "steps": [{"label", "config": "module:Class",
"settings", "inputs": {name: artifact | [artifact, ...]}, "artifact"}]}. What happens is told on stdout, one
`@event {json}` a line, which the flow forwards to Prefect, MLflow and the terminal.
"""

import importlib
import json
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from infra.artifacts import Artifact
from infra.errors import RatchetError
from infra.output import Output
from infra.storage import Storage
from infra.team import Team
from infra.version import code_version
from infra.watchdog import start_watchdog
from tasks.configs.base import StageConfig

LOG_COPY_EVERY_S = 10.0


class JobLog:
    """Stdout lines, kept and copied into the store now and then: Ray forgets its logs when its head dies."""

    def __init__(self, store: Storage, key: str) -> None:
        self.store, self.key = store, key
        self.lines: list[str] = []
        self.copied = 0
        threading.Thread(target=self._copy_forever, daemon=True).start()

    def line(self, text: str) -> None:
        print(text, flush=True)
        self.lines.append(text)

    def event(self, values: dict[str, Any]) -> None:
        self.line("@event " + json.dumps(values))

    def copy(self) -> None:
        if len(self.lines) > self.copied:
            self.copied = len(self.lines)
            self.store.put(self.key, "\n".join([*self.lines[: self.copied], ""]).encode())

    def _copy_forever(self) -> None:
        while True:
            time.sleep(LOG_COPY_EVERY_S)
            self.copy()


def load_config(name: str, settings: dict[str, Any]) -> StageConfig:
    """`module:Class` and its values to a config; only classes of tasks.configs are taken."""
    module, _, attribute = name.partition(":")
    if not module.startswith("tasks.configs."):
        raise ValueError(f"config {name!r} is not in tasks.configs")
    return getattr(importlib.import_module(module), attribute).model_validate(settings)


def read_inputs(values: dict[str, Any]) -> dict[str, Artifact | tuple[Artifact, ...]]:
    """Artifact handles from their JSON; a list stands for an input of several artifacts."""
    return {
        name: tuple(Artifact.model_validate(item) for item in value)
        if isinstance(value, list)
        else Artifact.model_validate(value)
        for name, value in values.items()
    }


def run_step(step: dict[str, Any], store: Storage, workspace: Path, tell: Callable[[dict[str, Any]], None]) -> None:
    """One stage: nothing when its artifact is there and whole, else call its `run` and commit."""
    artifact = Artifact.model_validate(step["artifact"])
    if artifact.exists():
        tell({"event": "cached"})
        return
    config = load_config(step["config"], step["settings"])
    tell({"event": "started", "device": device_name()})
    started = time.monotonic()
    if config.spread:
        from tasks.workers import run_on_workers  # noqa: PLC0415 - Ray takes a second to import

        run_on_workers(make_artifact, step, config.resources, store, workspace, tell)
    else:
        make_artifact(step, store, workspace, tell, Team())
    tell({"event": "made", "seconds": time.monotonic() - started})


def make_artifact(
    step: dict[str, Any], store: Storage, workspace: Path, tell: Callable[[dict[str, Any]], None], team: Team
) -> None:
    """Run the stage in this process, one of the team's, of whom the first commits what was made."""
    started = time.monotonic()
    config, inputs = load_config(step["config"], step["settings"]), read_inputs(step["inputs"])
    output = Output(Artifact.model_validate(step["artifact"]), store, tell, workspace, team)
    outcome = importlib.import_module(config.module).run(config, output, **inputs)
    if team.leads:
        output.commit(
            outcome,
            recipe=config.recipe(),
            inputs=inputs,
            version=config.version,
            label=step["label"],
            device=device_name(),
            wall_s=time.monotonic() - started,
            code_version=code_version(),
        )
    team.meet()
    output.close()


def device_name() -> str:
    """The accelerator's name, or the processor's architecture with torch's thread count."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu {platform.machine()} x{torch.get_num_threads()}"


def fail(log: JobLog, label: str, error: Exception) -> int:
    """Tell the flow what went wrong in one event; the traceback goes to the log only."""
    known = isinstance(error, RatchetError)
    if not known:
        log.line("".join(traceback.format_exception(error)))
    log.event(
        {
            "event": "failed",
            "label": label,
            "type": type(error).__name__,
            "message": error.message if known else f"{type(error).__name__}: {error}",
            "remedy": error.remedy if known else "the job's log has the traceback",
        }
    )
    return error.exit_code if known else 1


def main(location: str) -> int:
    """Run the chain in the spec at `location`; returns the process's exit code."""
    start_watchdog()
    root, _, key = location.rpartition("#")
    store = Storage.open(root)
    spec = json.loads(store.read(key))
    torch.set_num_threads(spec["threads"])
    workspace = Path(spec["workspace"])
    log = JobLog(store, key.replace("spec.json", f"log-{os.getpid()}.txt"))
    label = ""
    try:
        for step in spec["steps"]:
            label = step["label"]
            run_step(step, store, workspace, lambda values, label=label: log.event({"label": label, **values}))
    except Exception as error:
        return fail(log, label, error)
    finally:
        log.copy()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
