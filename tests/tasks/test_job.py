"""The driver of a job, run as Ray runs it but without Ray: a spec in the store, events on stdout, a log kept."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.steps import Step, make_step
from infra.storage import Storage
from tasks import job
from tasks.configs.base import Resources, StageConfig
from tasks.configs.import_model import ImportModelConfig
from tasks.configs.training import SFTConfig
from tasks.configs.world import DocumentsConfig, HumanRowsConfig, TokenizerConfig

SPEC = "jobs/test/spec.json"


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Job:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = Storage.open(folder / "a store with a # in its name")
        self.workspace, self.capsys = folder / "workspace", capsys

    def step(self, label: str, config: StageConfig, **inputs: Any) -> Step:
        return make_step(label, config, self.store.uri, inputs)

    def write(self, steps: list[Step]) -> str:
        spec = {"store": self.store.uri, "workspace": str(self.workspace), "threads": 1,
                "steps": [step.as_json() for step in steps]}  # fmt: skip
        self.store.put(SPEC, json.dumps(spec).encode())
        return f"{self.store.uri}#{SPEC}"

    def run(self, *steps: Step) -> tuple[int, list[dict[str, Any]]]:
        """The exit code and the events told."""
        location = self.write(list(steps))
        self.capsys.readouterr()
        code = job.main(location)
        return code, events_in(self.capsys.readouterr().out)

    def log(self) -> str:
        (key,) = [key for key in self.store.list("jobs") if "log-" in key]
        return self.store.read(key).decode()


def events_in(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("@event ")) for line in text.splitlines() if line.startswith("@event ")]


def kinds(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What happened to which step, progress and lines left out."""
    return [(one["label"], one["event"]) for one in events if one["event"] not in ("progress", "line", "metrics")]


@pytest.fixture
def a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Job:
    return Job(tmp_path, capsys)


def corpus(a_job: Job) -> list[Step]:
    texts = a_job.step("texts", DocumentsConfig(documents=30))
    return [texts, a_job.step("words", TokenizerConfig(), texts=(texts.artifact,))]


def test_a_chain_makes_each_artifact_and_finds_it_again(a_job: Job) -> None:
    steps = corpus(a_job)
    code, events = a_job.run(*steps)
    assert code == 0
    assert kinds(events) == [("texts", "started"), ("texts", "made"), ("words", "started"), ("words", "made")]
    for step in steps:
        manifest = step.artifact.manifest()
        assert not step.artifact.verify() and manifest.label == step.label
        assert manifest.recipe == step.config.recipe() and manifest.version == step.config.version
        assert manifest.wall_s > 0 and manifest.device.startswith("cpu") and manifest.device.endswith("x1")
    assert steps[1].artifact.manifest().inputs == {"texts": [steps[0].artifact.fingerprint]}
    assert events_in(a_job.log()) == events
    code, again = a_job.run(*steps)
    assert (code, kinds(again)) == (0, [("texts", "cached"), ("words", "cached")])


def test_a_damaged_artifact_is_made_again(a_job: Job) -> None:
    steps = corpus(a_job)
    a_job.run(*steps)
    part = f"{steps[0].artifact.key}/part-00000.parquet"
    whole = a_job.store.read(part)
    a_job.store.put(part, whole[:-9])
    code, events = a_job.run(*steps)
    assert (code, kinds(events)) == (0, [("texts", "started"), ("texts", "made"), ("words", "cached")])
    assert a_job.store.read(part) == whole and a_job.store.list("quarantine")


def test_a_known_error_is_told_in_one_event_with_its_remedy(a_job: Job, tmp_path: Path) -> None:
    gone = ImportModelConfig(digest="0" * 64, format="hf", source=str(tmp_path / "gone"))
    code, events = a_job.run(a_job.step("weak", gone), *corpus(a_job))
    assert code == 2
    assert kinds(events) == [("weak", "started"), ("weak", "failed")], "what comes after a failure is not begun"
    failed = events[-1]
    assert failed["type"] == "InputError" and str(tmp_path / "gone") in failed["message"]
    assert failed["remedy"] == "give a Hugging Face folder or a GGUF file"
    assert "Traceback" not in a_job.log()


def test_an_unknown_error_leaves_its_traceback_in_the_log(a_job: Job) -> None:
    code, events = a_job.run(a_job.step("teach", SFTConfig()))
    assert code == 1 and events[-1]["event"] == "failed"
    assert events[-1]["type"] == "TypeError" and events[-1]["message"].startswith("TypeError: run() missing")
    assert "Traceback" in a_job.log()


def test_earlier_steps_stay_made_when_a_later_one_fails(a_job: Job) -> None:
    good = a_job.step("people", HumanRowsConfig(answers=2, questions=2))
    code, events = a_job.run(good, a_job.step("teach", SFTConfig()))
    assert code == 1 and kinds(events)[:2] == [("people", "started"), ("people", "made")]
    assert good.artifact.exists()


def test_it_runs_as_its_own_process(a_job: Job, tmp_path: Path) -> None:
    location = a_job.write([a_job.step("people", HumanRowsConfig(answers=2, questions=2))])
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "tasks.job", location],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert kinds(events_in(ended.stdout)) == [("people", "started"), ("people", "made")]


def test_only_configs_of_stages_are_loaded() -> None:
    settings = SFTConfig(epochs=3, resources=Resources(gpus=1)).model_dump(mode="json")
    assert job.load_config("tasks.configs.training:SFTConfig", settings).recipe()["epochs"] == 3
    with pytest.raises(ValueError, match="'os:system' is not in tasks"):
        job.load_config("os:system", {})
    with pytest.raises(ValueError, match="epochz"):
        job.load_config("tasks.configs.training:SFTConfig", settings | {"epochz": 1})


def test_inputs_come_back_as_they_were(a_job: Job) -> None:
    first, second = (step.artifact for step in corpus(a_job))
    step = a_job.step("x", SFTConfig(), base=second, texts=(first, second))
    assert job.read_inputs(json.loads(json.dumps(step.as_json()))["inputs"]) == {
        "base": second, "texts": (first, second)
    }  # fmt: skip
