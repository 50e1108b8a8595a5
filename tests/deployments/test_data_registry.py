"""`ratchet data` with a real registry: registered models stay, and a version is traced to the rows that taught it."""

from pathlib import Path

import pytest

from infra.artifacts import Artifact
from infra.stack import Stack
from infra.tracking import Registry, Tracker
from tasks.rows import DIALOGUE, PROMPT
from tests.deployments.test_data_gc import rest
from tests.deployments.test_data_trace import dialogue, prompt, weights


@pytest.fixture
def models(put, put_rows, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Artifact]:
    """One model that is registered as demo 1 with an alias, and one that nobody registered."""
    asked = [prompt("question")]
    prompts = put_rows("prompts", "prompts", asked, PROMPT)
    answered = put_rows("dialogues", "d", [dialogue(asked[0], "answer")], DIALOGUE, inputs={"prompts": prompts})
    taught = put("sft", "taught", weights, kind="checkpoint", inputs={"dialogues": answered})
    stray = put("import_model", "stray", weights, kind="checkpoint")
    with Stack(workspace) as stack:
        registry = Registry(Tracker(str(stack.start({"mlflow"}).mlflow_tracking_uri), "demo"))
        registry.set_alias("generator", registry.register(taught, {"step": "general sft"}, "a card"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # the client leaves it to its child processes
    return {"prompts": prompts, "dialogues": answered, "taught": taught, "stray": stray}


def test_a_version_is_traced_and_kept(ratchet, models, workspace, store):
    ended = ratchet("data", "trace", "models:/demo@generator", "--json")
    assert ended.code == 0, ended.err
    found = ended.document
    assert found["id"] == models["taught"].fingerprint
    assert [entry["uri"] for entry in found["taught_by"]] == [models["dialogues"].uri]
    assert found["versions"] == [{"version": "models:/demo/1", "aliases": ["generator"]}]
    assert "not known" not in ratchet("data", "trace", "models:/demo/1").err
    ended = ratchet("data", "trace", "models:/demo/7")
    assert ended.code == 2 and "is not in the registry" in ended.err

    rest(store)
    collected = ratchet("data", "gc", "--older-than", "0", "--yes", "--json")
    assert collected.code == 0 and "starting" not in collected.err, "the registry's database is read without a server"
    assert [item["uri"] for item in collected.document["items"]] == [models["stray"].uri]
    assert models["taught"].exists() and models["prompts"].exists() and not models["stray"].exists()

    with Stack(workspace) as stack:
        stack.start({"mlflow"})
        row = ratchet("data", "trace", next(models["prompts"].iter_rows())["id"], "--json").document
        (model,) = row["models"]
        assert model["versions"] == [{"version": "models:/demo/1", "aliases": ["generator"]}]
        shown = ratchet("data", "trace", models["taught"].fingerprint)
        assert "models:/demo/1 @generator" in shown.out and "not known" not in shown.err


def test_a_configured_server_that_does_not_answer_is_said(ratchet, models, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    traced = ratchet("data", "trace", models["taught"].fingerprint)
    assert traced.code == 0 and "registered versions are not known: no MLflow server answers" in traced.err
    listed = ratchet("data", "gc", "--older-than", "0", "--json")
    assert listed.code == 0 and models["stray"].uri not in {item["uri"] for item in listed.document["items"]}
    assert "every model is kept" in listed.err
