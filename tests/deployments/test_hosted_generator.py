"""A hosted model as the generator, on the command line: planned unasked, checked once before a run, no base of ours."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.plans import load_plan
from deployments.preflight import preflight
from infra.artifacts import Artifact
from infra.output import Output
from infra.ports import free_ports
from infra.settings import Settings
from tasks.configs.endpoint_model import EndpointModelConfig
from tests.tasks.engines.peer import Peer, Reply, answer, error, peer

KEY = "sk-test-0123456789-secret"


@pytest.fixture(autouse=True)
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_OPENAI_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[Peer]:
    with peer(lambda body, number: answer()) as found:
        yield found


def generator(url: str) -> list[str]:
    return ["--set", f"generator=openai:{url}#weak"]


@pytest.fixture
def base(model_folder: Callable[[int], Path]) -> list[str]:
    return ["--set", f"base={model_folder(0)}"]


@pytest.fixture
def refused(ratchet: Any, workspace: Path) -> Callable[..., str]:
    def run(code: int, *arguments: str) -> str:
        ended = ratchet("run", *arguments, "--json")
        (line,) = ended.err.strip().splitlines()
        assert ended.code == code and ended.document["error"]["remedy"] and KEY not in line, line
        assert not workspace.exists() or not any(workspace.iterdir()), "nothing may be made or started"
        return line

    return run


def test_a_plan_shows_it_and_asks_nobody(ratchet: Any, server: Peer, base: list[str]) -> None:
    document = ratchet("plan", *generator(server.url), *base, "--json").document
    hosted, ours = document["models"]
    assert (hosted["state"], hosted["parameters"], hosted["weights_bytes"]) == ("hosted", None, None)
    assert ours["state"] == "to be imported" and document["lineage"]
    stages = document["iterations"][0]["stages"]
    assert [stage["name"] for stage in stages if stage["stage"] == "endpoint_model"] == ["import generator"]
    assert {stage["state"] for stage in stages} == {"missing"}
    table = ratchet("plan", *generator(server.url), *base).out
    assert "hosted" in table and "unknown" in table and server.asked == []
    other = ratchet("plan", *base, "--set", f"generator=openai:{server.url}#weak;revision=2", "--json").document
    assert other["lineage"] != document["lineage"]
    priced = ratchet("plan", *generator(server.url), *base, "--set", "endpoint.answer_price=2", "--json").document
    assert priced["lineage"] == document["lineage"]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_it_is_no_base(ratchet: Any, server: Peer, command: str) -> None:
    for changes in (["--set", f"base=openai:{server.url}#weak"],
                    [*generator(server.url), "--set", f"base=openai:{server.url}#weak"]):  # fmt: skip
        ended = ratchet(command, *changes, "--json")
        assert ended.code == 2 and f"base=openai:{server.url}#weak: a hosted model has no weights" in ended.err
    assert server.asked == []


def test_the_preflight_asks_once(server: Peer, workspace: Path, base: list[str]) -> None:
    plan = load_plan(None, None, [*generator(server.url)[1:], *base[1:]])
    preflight(plan, Settings.from_env(workspace=workspace))
    assert len(server.asked) == 1 and server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert server.asked[0]["max_tokens"] == 1


@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        (error(401, "bad key"), 2, ["generator", "401", "RATCHET_OPENAI_API_KEY"]),
        (error(404, "no such model"), 2, ["generator", "no model 'weak'"]),
        (error(400, "unknown field continue_final_message"), 2, ["generator", "endpoint.continuation=ask"]),
        (Reply(b"<html>", 503), 1, ["generator", "503"]),
    ],
)
def test_an_endpoint_that_does_not_work(
    refused: Callable[..., str], server: Peer, base: list[str], reply: Reply, code: int, words: list[str]
) -> None:
    server.script = lambda body, number: reply
    line = refused(code, *generator(server.url), *base)
    assert all(word in line for word in words), line


def test_a_server_that_is_not_there(refused: Callable[..., str], base: list[str]) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}/v1"
    assert f"{url} cannot be reached" in refused(1, *generator(url), *base)


def test_plain_http_to_another_machine(refused: Callable[..., str], base: list[str]) -> None:
    assert "endpoint.allow_http=true" in refused(2, *generator("http://models.example/v1"), *base)


def test_what_needs_weights_refuses_it(
    ratchet: Any, put: Callable[..., Artifact], server: Peer, tmp_path: Path
) -> None:
    reference = f"openai:{server.url}#weak"
    made = put("endpoint_model", "weak", lambda output: fill(output, server.url), kind="checkpoint")
    for name in (reference, made.uri):
        for command in (["export", name, str(tmp_path / "out")], ["chat", name, "--prompt", "Hi"],
                        ["reward", name, "--input", str(rows(tmp_path))]):  # fmt: skip
            ended = ratchet(*command)
            assert ended.code == 2 and "a hosted model has no weights" in ended.err, (command, ended.err)
    assert server.asked == []


def fill(output: Output, url: str) -> None:
    output.write_json("endpoint.json", {"url": url, "model": "weak", "revision": ""})


def rows(folder: Path) -> Path:
    (folder / "rows.jsonl").write_text('{"prompt": "Hi", "response": "Ho"}\n')
    return folder / "rows.jsonl"


def test_its_settings_reach_every_stage_that_writes() -> None:
    plan = load_plan("smollm", None, ["endpoint.concurrency=3", "responses.resources.endpoint.concurrency=5"])
    assert plan.topics and plan.topics.resources.endpoint.concurrency == 3
    assert plan.responses.resources.endpoint.concurrency == 5
    assert plan.gate_exam.resources.endpoint.concurrency == plan.attributes.resources.endpoint.concurrency == 3
    assert plan.digest() == load_plan("smollm", None, []).digest()
    assert EndpointModelConfig(url="https://host/v1/", model="m").url == "https://host/v1"


def test_it_is_examined_like_any_model_once(ratchet: Any, server: Peer) -> None:
    command = ["eval", f"openai:{server.url}#weak", "--preset", "tiny", "--set", "evaluation_set.dev=8", "--json",
               "--set", "evaluation_set.open=0", "--set", "endpoint.answer_price=1"]  # fmt: skip
    first = ratchet(*command)
    assert first.code == 0 and first.document["items"] == len(server.asked) > 0, first.err
    assert ratchet(*command).document == first.document and first.document["items"] == len(server.asked)
