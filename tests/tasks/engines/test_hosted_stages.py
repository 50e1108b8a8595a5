"""Stages with a hosted generator: what they write, what it costs, and that the key stays where it is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.steps import make_step
from infra.artifacts import Artifact
from infra.services import Service, environment
from infra.storage import Storage
from tasks import code_instruct, dialogues, endpoint_model, judge, responses
from tasks.configs.base import EndpointResources, Resources
from tasks.configs.code_instruct import CodeInstructConfig
from tasks.configs.dialogues import DialoguesConfig
from tasks.configs.endpoint_model import EndpointModelConfig
from tasks.configs.evaluate import EvaluateConfig
from tasks.configs.judging import JudgingConfig
from tasks.configs.responses import ResponsesConfig
from tasks.configs.world import WorldItemsConfig
from tasks.engines.endpoint import EndpointEngine
from tasks.follow_ups import PERSONAS, User
from tasks.generation import licence_of, open_engine
from tasks.rows import PROMPT, RESPONSE, make_row
from tests.tasks.engines.peer import Peer, Reply, answer, answers, logprobs, peer

KEY = "sk-test-0123456789-secret"
PRICED = Resources(endpoint=EndpointResources(longest_wait_s=0.05, prompt_price=1.0, answer_price=10.0))


@pytest.fixture(autouse=True)
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_OPENAI_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[Peer]:
    with peer(lambda body, number: answers([f"Answer {number}."] * body.get("n", 1), "stop", 100, 10)) as found:
        yield found


@pytest.fixture
def hosted(run_stage: Callable[..., Artifact], server: Peer) -> Artifact:
    return run_stage(endpoint_model.run, EndpointModelConfig(url=server.url, model="weak"))


def prompt_row(text: str) -> dict[str, Any]:
    values = {"family": "open_qa", "topic": "t", "messages": [{"role": "user", "content": text}], "verifier": None,
              "source": "test", "synthetic": False, "generator": "", "licence": "CC-BY-4.0"}  # fmt: skip
    return make_row(PROMPT, values, text)


def response_row(prompt: str, text: str) -> dict[str, Any]:
    values = {"prompt_id": prompt, "prompt": [{"role": "user", "content": prompt}], "family": "open", "topic": "t",
              "response": text, "responder": "r", "sample": 0, "aid": "", "finish_reason": "stop", "source": "test",
              "synthetic": True, "generator": "0" * 32, "licence": "CC0-1.0"}  # fmt: skip
    return make_row(RESPONSE, values, [prompt, text])


def test_its_artifact_is_its_address(run_stage: Callable[..., Artifact], hosted: Artifact, server: Peer) -> None:
    manifest = hosted.manifest()
    assert hosted.kind == "checkpoint" and [file.path for file in manifest.files] == ["endpoint.json"]
    assert hosted.read_json("endpoint.json") == {"url": server.url, "model": "weak", "revision": ""}
    assert manifest.result["hosted"] is True and licence_of(hosted) == "unknown"
    licensed = EndpointModelConfig(url=server.url, model="weak", licence="MIT")
    assert licence_of(run_stage(endpoint_model.run, licensed)) == "MIT"
    assert isinstance(open_engine(hosted, PRICED), EndpointEngine) and server.asked == []


def test_responses_count_tokens_and_cost(
    run_stage: Callable[..., Artifact], give_rows: Callable[..., Artifact], hosted: Artifact, server: Peer
) -> None:
    prompts = give_rows("prompts", [prompt_row(text) for text in ("Why rain?", "Why snow?")], PROMPT)
    made = run_stage(responses.run, ResponsesConfig(resources=PRICED), prompts=prompts, generator=hosted)
    rows, metrics = made.rows(), made.manifest().metrics
    assert len(rows) == 6 and {row["generator"] for row in rows} == {hosted.fingerprint}
    assert {row["licence"] for row in rows} == {"CC-BY-4.0 AND unknown"}
    assert len(server.asked) == 4 and len({body["seed"] for body in server.asked}) == 4
    assert (metrics["prompt_tokens"], metrics["generated_tokens"]) == (400, 40)
    assert metrics["cost"] == pytest.approx(800 / 1e6) and metrics["tokens_per_s"] > 0


def test_the_user_of_a_dialogue_speaks_with_roles_swapped(
    run_stage: Callable[..., Artifact], give_rows: Callable[..., Artifact], hosted: Artifact, server: Peer,
    a_reward_model: Artifact,
) -> None:  # fmt: skip
    def talk(body: dict[str, Any], number: int) -> Reply:
        asked = body["messages"][-1]
        if asked["role"] == "assistant":
            return answers([" it is wet in the clouds?"] * body["n"], "stop", 10, 5)
        return answer("Rain falls out of clouds." if number == 0 else "Warm air lifts water, which cools up there.")

    server.script = talk
    config = DialoguesConfig(rows=1, turns=2, personas=("sceptic",), variants={"concise": 1}, user_temperature=0.7,
                             user_samples=3, resources=PRICED)  # fmt: skip
    prompts = give_rows("prompts", [prompt_row("Why rain?")], PROMPT)
    made = run_stage(dialogues.run, config, generator=hosted, prompts=prompts, reward_model=a_reward_model)
    (row,) = made.rows()
    first, said, second, _ = [message["content"] for message in row["messages"]]
    sceptic = User(PERSONAS["sceptic"], "concise")
    (opening,) = [one for one in sceptic.openings if second == f"{one} it is wet in the clouds?"]
    assert server.asked[1]["messages"] == [
        {"role": "user", "content": sceptic.note()},
        {"role": "assistant", "content": first},
        {"role": "user", "content": said},
        {"role": "assistant", "content": opening},
    ]
    assert server.asked[1]["stop"] == ["\n"] and server.asked[1]["continue_final_message"] is True
    assert made.manifest().metrics["prompt_tokens"] == 30, "the user's turns cost something too"


def judged(run_stage: Callable[..., Artifact], give_rows: Callable[..., Artifact], **inputs: Artifact) -> Artifact:
    rows = [response_row(f"q{number}", f"answer {text}") for number in range(2) for text in ("one", "two two")]
    config = JudgingConfig(llm_pairs=2, llm_truth_pairs=0, resources=PRICED)
    return run_stage(judge.run, config, responses=give_rows("responses", rows, RESPONSE), **inputs)


def test_it_judges_by_its_likeliest_tokens(
    run_stage: Callable[..., Artifact], give_rows: Callable[..., Artifact], hosted: Artifact, server: Peer,
    a_reward_model: Artifact,
) -> None:  # fmt: skip
    def prefer_the_longer(body: dict[str, Any], number: int) -> Reply:
        first = body["messages"][0]["content"].partition("Answer A:\n")[2]
        is_longer = first.startswith("answer two")
        return answer(logprobs=logprobs(_A=-0.1 if is_longer else -3.0, _B=-3.0 if is_longer else -0.1))

    server.script = prefer_the_longer
    made = judged(run_stage, give_rows, generator=hosted, reward_model=a_reward_model)
    facts = made.read_json("judges.json")["judges"]["llm"]
    assert (facts["pairs"], facts["consistent"], facts["length"]["longer_wins"]) == (2, 2, 1.0)
    assert len(server.asked) == 4 and made.manifest().metrics["cost"] == pytest.approx(4 * (10 + 50) / 1e6)


def test_a_judge_without_log_probabilities_has_no_opinion_and_says_so(
    run_stage: Callable[..., Artifact], give_rows: Callable[..., Artifact], hosted: Artifact, server: Peer,
    a_reward_model: Artifact,
) -> None:  # fmt: skip
    made = judged(run_stage, give_rows, generator=hosted, reward_model=a_reward_model)
    facts = made.read_json("judges.json")["judges"]["llm"]
    assert (facts["pairs"], facts["consistent"]) == (2, 0) and "sent none" in facts["silence"]
    assert len(server.asked) == 1 and made.manifest().rows == 4


def test_code_without_a_judge_is_not_kept_and_counted(
    run_stage: Callable[..., Artifact], hosted: Artifact, server: Peer
) -> None:
    subjects = ["colours in a painting", "rivers on an old map", "goals of both teams", "keys of a broken piano",
                "stamps from abroad", "bones in a fish", "gears of a bicycle", "seats in every row"]  # fmt: skip

    def write(body: dict[str, Any], number: int) -> Reply:
        if body["max_tokens"] == 1:
            return answer(" Yes")
        if body["messages"][-1]["content"].startswith("```"):
            return answer(f" solve(things):\n    total = {number}\n    for thing in things:\n        total += thing"
                          f" ** {number + 2}\n    return total\n```")  # fmt: skip
        return answer(f" {subjects[number % len(subjects)]}.")

    server.script = write
    config = CodeInstructConfig(colonies=1, generations=1, population=4, resources=PRICED)
    made = run_stage(code_instruct.run, config, generator=hosted)
    counts = made.manifest().counts
    assert counts.get("dropped:not_judged", 0) > 0 and made.manifest().result["generated"] == 0, counts
    assert made.rows(), "the hand-written seeds stay"


def test_the_key_is_nowhere_after_a_job(tmp_path: Path, server: Peer) -> None:
    """Spec, store, logs, manifests and events of a job that a driver runs, whose server tells the key back."""
    server.script = lambda body, number: answer(f"I know {KEY} and " + body["messages"][-1]["content"][:10])
    workspace, resources = tmp_path / "workspace", PRICED
    store = str(workspace / "store")
    model = make_step("weak", EndpointModelConfig(url=server.url, model="weak"), store, {})
    items = make_step("items", WorldItemsConfig(dev=6, gate=6, open=2), store, {})
    inputs = {"model": model.artifact, "evaluation_set": items.artifact}
    exam = make_step("exam", EvaluateConfig(half="dev", resources=resources), store, inputs)
    spec = {"workspace": str(workspace), "threads": 1, "steps": [step.as_json() for step in (model, items, exam)]}
    Storage.open(store).put("jobs/test/spec.json", json.dumps(spec).encode())
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "tasks.job", f"{store}#jobs/test/spec.json"],
        env=variables, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "[key]" in exam.artifact.rows()[0]["answer"] and exam.artifact.manifest().metrics["cost"] > 0
    assert {header["authorization"] for header in server.headers} == {f"Bearer {KEY}"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 6 and not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in ended.stdout + ended.stderr


def test_the_key_reaches_ray_and_no_other_server(tmp_path: Path) -> None:
    for name, reached in (("ray", True), ("mlflow", False), ("prefect", False)):
        service = Service(name, [], tmp_path, tmp_path / "log", "", "")
        assert ("RATCHET_OPENAI_API_KEY" in environment(tmp_path, service)) == reached
