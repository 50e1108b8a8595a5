"""A turn of the wheel on `tiny`: what it leaves in store, registry and servers, and what a second run does."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from infra.artifacts import Artifact, list_artifacts
from infra.processes import marked
from infra.records import Records, lineages
from infra.services import stack_id
from infra.stack import Endpoints, Stack
from infra.storage import Storage
from models.checkpoint import load_model
from tests.environment import bare_environment
from tests.integration.conftest import command_line

pytestmark = pytest.mark.timeout(1500)

STEPS = ["general sft", "dpo", "rpo 1", "rpo 2", "rpo 3"]
BEFORE = ["pretrain", "continued pretraining", "teacher", "reward model"]
DATA = ["prompts", "dialogues", "responses", "judging", "dpo pairs", "rpo pairs", "general mix"]


def artifact(turned, name: str) -> Artifact:
    stage, fingerprint = turned.stages[name]["artifact"].split("/")[-2:]
    store = str(turned.workspace / "store")
    return Artifact(stage=stage, kind="unknown", fingerprint=fingerprint, store=store)


def test_the_document_names_every_stage_and_what_it_made(turned):
    document = turned.ended.document
    (iteration,) = document["iterations"]
    assert iteration["number"] == 1 and iteration["verdict"] in ("promote", "keep")
    assert document["generator"].startswith("models:/tiny/")
    assert (document["generator"] == iteration["candidate"]) == (iteration["verdict"] == "promote")
    assert set(BEFORE) | set(DATA) | set(STEPS) | {"gate", "report"} <= set(turned.stages)
    assert {stage["state"] for stage in turned.stages.values()} == {"made"}
    for name in turned.stages:
        assert artifact(turned, name).verify() == [], name


def test_the_record_of_the_verdict_tells_what_it_came_from(turned):
    store = Storage.open(turned.workspace / "store")
    (lineage,) = lineages(store, "tiny")
    (verdict,) = Records(store, "tiny", lineage).all("verdict")
    assert verdict.candidate == artifact(turned, "rpo 3").model_copy(update={"kind": "checkpoint"})
    assert verdict.versions["sft"] == artifact(turned, "general sft").manifest().version


def test_each_step_starts_from_the_one_before_and_is_anchored_to_it(turned):
    """Base, then SFT, DPO and three rounds of RPO; reference log-probabilities from each round's own start."""
    before = artifact(turned, "continued pretraining").fingerprint
    for name in STEPS:
        inputs = artifact(turned, name).manifest().inputs
        assert inputs["base" if name == "general sft" else "policy"] == before, name
        if name != "general sft":
            assert artifact(turned, f"{name} reference").manifest().inputs["policy"] == before, name
        before = artifact(turned, name).fingerprint


def test_the_student_learns_more_from_its_teacher_than_the_controls_learn_without_it(turned):
    """Weak to strong: the candidate beats its teacher, the base with human rows only, and shuffled answers."""
    accuracy = {
        name: artifact(turned, name).manifest().metrics["accuracy"]
        for name in ("candidate exam", "generator exam", "control exam: human only", "control exam: shuffled teacher")
    }
    assert accuracy["candidate exam"] == max(accuracy.values()), accuracy
    assert accuracy["control exam: shuffled teacher"] == min(accuracy.values()), accuracy


def test_rewards_of_truth_judged_pairs_are_the_configured_gap_and_reach_the_loss(turned):
    rows = artifact(turned, "rpo pairs").rows()
    truth = [row for row in rows if row["judge"] == "ground_truth"]
    assert truth and {round(row["chosen_reward"] - row["rejected_reward"], 4) for row in truth} == {2.0}
    assert artifact(turned, "rpo 1").manifest().metrics["eta"] == pytest.approx(1.0)


def test_the_synthetic_share_is_counted_from_the_rows(turned):
    mix = artifact(turned, "general mix")
    rows = mix.rows()
    share = sum(row["synthetic"] for row in rows) / len(rows)
    assert mix.manifest().metrics["synthetic_share"] == pytest.approx(share)
    teacher = artifact(turned, "teacher").fingerprint
    assert {row["generator"] for row in rows if row["synthetic"]} == {teacher}
    assert all(row["licence"] for row in rows)


def test_no_row_that_teaches_repeats_an_examination_item(turned):
    items = {json.dumps(row["messages"]) for row in artifact(turned, "evaluation set").rows()}
    for row in artifact(turned, "general mix").rows():
        assert json.dumps(row["messages"][:-1]) not in items, row["id"]


def test_the_candidate_opens_as_any_model_does(turned):
    model, tokenizer = load_model(artifact(turned, "rpo 3").folder())
    assert model.config.family == "nemotron" and tokenizer.chat_template


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_report_tells_the_verdict(turned):
    page = Text()
    page.feed(Path(turned.ended.document["report"]).read_text())
    text = " ".join(page.words)
    gate = artifact(turned, "gate").manifest().result
    assert gate["n"] >= 240 and f"{100 * gate['gain']:+.1f}".lstrip("+") in text
    assert all(name in text for name in STEPS)


def test_nothing_is_left_running(turned):
    assert marked(stack_id(turned.workspace)) == []


def test_the_same_command_again_finds_everything(turned, command):
    again = command("run", "--preset", "tiny")
    assert again.code == 0, again.err
    stages = {stage["name"]: stage for stage in again.document["iterations"][0]["stages"]}
    assert {stage["state"] for stage in stages.values()} == {"cached"}
    assert {name: stage["artifact"] for name, stage in stages.items()} == {
        name: stage["artifact"] for name, stage in turned.stages.items()
    }
    assert again.document["generator"] == turned.ended.document["generator"]


def test_another_beta_in_the_last_round_leaves_everything_before_it(turned, command):
    planned = command("plan", "--preset", "tiny", "--set", "preference_tuning.3.beta=0.3")
    assert planned.code == 0, planned.err
    text = json.dumps(planned.document)
    for name in ("rpo 2", "rpo 3 reference", "general sft"):
        assert artifact(turned, name).fingerprint in text, name
    assert artifact(turned, "rpo 3").fingerprint not in text


def test_verify_finds_a_changed_byte_and_the_next_run_makes_it_again(turned, command):
    """The gate's verdict file is damaged; only that stage is made again, with the same bytes."""
    gate = artifact(turned, "gate")
    before = gate.manifest().sha256()
    damaged = Path(gate.folder()) / "flips.json"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = command("data", "verify")
    assert found.code == 1 and [item["file"] for item in found.document["bad"]] == ["flips.json"]
    again = command("run", "--preset", "tiny")
    assert again.code == 0, again.err
    made = [s["name"] for s in again.document["iterations"][0]["stages"] if s["state"] == "made"]
    assert made == ["gate"]
    assert gate.manifest().sha256() == before
    assert command("data", "verify").document["bad"] == []


def test_ctrl_c_stops_jobs_that_run_side_by_side(turned, tmp_path):
    """Another seed of the data, so that pretraining is there; interrupted while the answers are written."""
    command = command_line(turned.workspace, "run", "--preset", "tiny", "--set", "seed=9")
    with (tmp_path / "stderr.txt").open("w+") as told:
        environment = bare_environment() | {"RATCHET_PROJECT": "stopped"}
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told, env=environment)
        deadline = time.monotonic() + 300
        while "· responses" not in (tmp_path / "stderr.txt").read_text():
            assert run.poll() is None and time.monotonic() < deadline, (tmp_path / "stderr.txt").read_text()
            time.sleep(0.5)
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130
    words = (tmp_path / "stderr.txt").read_text()
    assert "the same command goes on from here" in words and "Traceback" not in words
    assert marked(stack_id(turned.workspace)) == []


@pytest.fixture(scope="module")
def servers(turned) -> Iterator[Endpoints]:
    """The workspace's databases, opened again."""
    with Stack(turned.workspace) as stack:
        yield stack.start({"prefect", "mlflow"})


def test_mlflow_holds_a_run_for_each_stage_with_curves_and_inputs(turned, servers):
    client = MlflowClient(tracking_uri=servers.mlflow_tracking_uri)
    experiment = client.get_experiment_by_name("tiny")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id], max_results=500)}
    parent = runs["iteration 1"]
    assert parent.data.tags["ratchet.verdict"] == turned.ended.document["iterations"][0]["verdict"]
    for name in (*STEPS, "judging", "gate"):
        assert runs[name].data.tags["mlflow.parentRunId"] == parent.info.run_id, name
        assert runs[name].inputs.dataset_inputs, name
    curve = client.get_metric_history(runs["general sft"].info.run_id, "loss")
    assert len(curve) > 10 and curve[-1].value < curve[0].value


def test_the_registry_points_at_artifacts_and_says_who_writes_next(turned, servers):
    client = MlflowClient(tracking_uri=servers.mlflow_tracking_uri)
    aliases = client.get_registered_model("tiny").aliases
    number = turned.ended.document["generator"].rpartition("/")[2]
    assert aliases["generator"] == number and {"candidate", "reward"} <= set(aliases)
    version = client.get_model_version("tiny", aliases["candidate"])
    assert version.tags["uri"] == artifact(turned, "rpo 3").uri
    assert version.tags["gate_verdict"] == turned.ended.document["iterations"][0]["verdict"]
    assert version.tags["licence"] and "Intended use" in version.description


def test_prefect_shows_the_flows_as_a_tree_of_named_tasks(servers):
    url = f"{servers.prefect_api_url}"
    flows = httpx.post(f"{url}/flow_runs/filter", json={"limit": 100}).json()
    names = {run["name"] for run in flows if run["state_type"] == "COMPLETED"}
    assert {"iteration 1", "pretrain", "reward model"} <= names
    tasks = httpx.post(f"{url}/task_runs/filter", json={"limit": 200}).json()
    assert {"write prompts", "judge and mix", "general sft", "rpo 3", "gate"} <= {task["name"] for task in tasks}


def test_every_stage_has_its_manifest_in_one_place(turned):
    store = Storage.open(turned.workspace / "store")
    found = {item.fingerprint for item in list_artifacts(store)}
    assert {artifact(turned, name).fingerprint for name in turned.stages} <= found
