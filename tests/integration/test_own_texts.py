"""The documented plan over texts of one's own, at a small size: real servers, a tokenizer, both phases, the teacher."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.plans import load_plan
from deployments.session import session
from deployments.wheel import send_what_is_left
from flows.events import Event, listening
from flows.execution import running
from flows.pretrain import Pretrained, pretrain
from flows.runner import JobRunner, Site
from flows.stages import set_exam
from infra.artifacts import Artifact, list_artifacts
from infra.services import cores
from infra.settings import Settings
from infra.storage import Storage
from infra.tracking import Tracker
from models.pieces import Pieces
from models.tokenizer import Tokenizer
from tasks.configs.plan import Plan
from tasks.pretrain import batches
from tasks.token_corpus import open_tokens
from tests.own_texts import write_example

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SMALL_MODEL = "{hidden_size: 32, intermediate_size: 64, num_layers: 2, num_heads: 4, num_kv_heads: 2, head_dim: 8}"
HERE = "{gpus: 0, nodes: 1, replicas: 1, cpus: 1, recompute: none, microbatch_tokens: 512}"
LONGEST = 48
SMALL = {
    "tokenizer.vocabulary": "400", "tokenize.resources.cpus": "1",
    "main.model": SMALL_MODEL, "main.resources": HERE, "main.max_tokens": f"{LONGEST}", "main.warmup_steps": "2",
    "main.steps": "12", "main.tokens_per_step": "256", "main.learning_rate": "0.003",
    "main.batch_ramp": "[{from_tokens: 1200, tokens_per_step: 512}]",
    "continued.resources": HERE, "continued.max_tokens": f"{LONGEST}", "continued.steps": "10",
    "continued.tokens_per_step": "512",
    "teacher_sft.resources": HERE, "teacher_sft.max_tokens": "128", "teacher_sft.epochs": "1",
}  # fmt: skip
LIGHTER = [f"{name}.resources.cpus=1" for name in ("evaluation_set", "deduplicate")]
BLEND = {"english": 0.70, "multilingual": 0.15, "code": 0.15}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    for name in ("RATCHET_STORE", "PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    workspace = tmp_path / "workspace"
    monkeypatch.setenv("RATCHET_WORKSPACE", str(workspace))
    yield Settings.from_env(workspace=workspace)


def run(plan: Plan, settings: Settings) -> tuple[Pretrained, list[Event]]:
    """The flow on servers of its own, and what happened."""
    events: list[Event] = []
    with session(settings, print) as servers:
        site = Site(settings.store, settings.workspace, cores(), servers.cluster)
        tracker = Tracker(servers.mlflow_tracking_uri, "texts")
        runner = JobRunner(site, tracker, tracker.iteration("texts", 1, {}))
        with temporary_settings({PREFECT_API_URL: servers.prefect_api_url}), running(runner), listening(events.append):
            made = pretrain(plan, set_exam(plan))
            send_what_is_left()
    return made, events


def test_texts_become_a_teacher_and_a_base(settings: Settings, tmp_path: Path) -> None:
    small = [*(f"pretraining.{name}={value}" for name, value in SMALL.items()), *LIGHTER]
    plan = load_plan(None, write_example(tmp_path / "data"), small)
    made, events = run(plan, settings)
    tokens, main, late = stages(settings)
    assert made.base == late
    check_tokens(tokens)
    check_main(plan, tokens, main, events)
    check_continued(plan, main, late, events)
    assert made.generator.manifest().inputs["base"] == main.fingerprint
    counts = made.human.manifest().counts
    assert (made.human.stage, counts["in"], counts["kept"]) == ("deduplicate", 8, 8)
    assert not made.human.rows()[0]["synthetic"]
    assert made.generator.manifest().inputs["dialogues"] == made.human.fingerprint, "without evaluation items"
    assert late.manifest().result["licences"] == ["CC-BY-4.0", "unknown"], "only one of the texts states one"


def stages(settings: Settings) -> tuple[dict[str, Artifact], Artifact, Artifact]:
    """Tokens by source, and the two phases' checkpoints."""
    found = {one.manifest().label: one for one in list_artifacts(Storage.open(settings.store))}
    tokens = {one.manifest().recipe["source"]: one for one in found.values() if one.stage == "tokenize"}
    return tokens, found["pretrain"], found["continued pretraining"]


def check_tokens(tokens: dict[str, Artifact]) -> None:
    """One artifact of each source, though three of them are read by both phases."""
    assert sorted(tokens) == ["code", "english", "multilingual", "questions"]
    assert {name: one.manifest().rows for name, one in tokens.items()} == {
        "english": 40, "multilingual": 12, "code": 10, "questions": 20,
    }  # fmt: skip
    assert {str(row["source"]) for row in tokens["multilingual"].rows()} == {"multilingual"}, "not the reader's name"
    assert len({str(one.manifest().inputs["tokenizer"]) for one in tokens.values()}) == 1


def check_main(plan: Plan, tokens: dict[str, Artifact], main: Artifact, events: list[Event]) -> None:
    metrics, parts = main.manifest().metrics, plan.pretraining
    assert parts is not None
    taken = {name: metrics[f"tokens/{name}"] for name in BLEND}
    assert sum(taken.values()) == metrics["tokens"], "the trainer counted what the mixture planned"
    for name, share in BLEND.items():
        assert taken[name] == pytest.approx(share * metrics["tokens"], abs=2 * LONGEST)
        corpus = tokens[name].manifest().metrics["tokens"]
        assert metrics[f"epochs/{name}"] == pytest.approx(taken[name] / corpus, abs=0.5)
    assert metrics["corpus_tokens"] == sum(tokens[name].manifest().metrics["tokens"] for name in BLEND)
    assert Tokenizer.load(main.folder()).vocab_size == 400
    assert len(rates(events, "pretrain")) == metrics["steps"] == 12
    pieces = Pieces(open_tokens([tokens[name] for name in sorted(BLEND)], Tokenizer.load(main.folder())), LONGEST)
    before = batches(parts.main, pieces).tokens.sum(axis=1)
    assert before[-1] == metrics["tokens"]
    for trained, size in zip(before, np.diff(before), strict=False):
        most = 512 if trained >= 1200 else 256
        assert most - LONGEST < size <= most, f"a step of {size} tokens after {trained}"


def check_continued(plan: Plan, main: Artifact, late: Artifact, events: list[Event]) -> None:
    """Eight steps without questions, then two with three tenths of them, at rates that go on from the last one's."""
    metrics = late.manifest().metrics
    assert metrics["full_learning_rate"] == main.manifest().metrics["final_learning_rate"]
    found = rates(events, "continued pretraining")
    assert found == pytest.approx([metrics["full_learning_rate"] * 0.01 ** (step / 10) for step in range(1, 11)])
    assert metrics["tokens/questions"] == pytest.approx(0.3 * metrics["tokens"] * 0.2, abs=2 * LONGEST)
    names = [*BLEND, "questions"]
    assert sum(metrics[f"tokens/{name}"] for name in names) == metrics["tokens"]


def rates(events: list[Event], label: str) -> list[float]:
    """Learning rates of a stage, step by step."""
    found = [event for event in events if (event.kind, event.label) == ("metrics", label)]
    return [event.data["values"]["learning_rate"] for event in found]
