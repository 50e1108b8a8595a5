"""Our own server as an endpoint: a hosted model writes, to the letter, what the same weights write here."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from flows.steps import job_id, make_step
from infra.artifacts import Artifact
from infra.errors import InputError
from infra.jobs import Event, Finished, JobRequest, connect, follow, submit
from infra.services import ray_folder
from infra.stack import Stack
from infra.storage import Storage
from models.checkpoint import load_model, save_model
from models.config import ModelConfig
from models.decoder import init_model
from models.engine import Constraint, Engine, SamplingParams
from models.tokenizer import Tokenizer
from tasks.configs.base import EndpointResources
from tasks.configs.endpoint_model import EndpointModelConfig
from tasks.configs.evaluate import EvaluateConfig
from tasks.configs.world import WorldItemsConfig
from tasks.engines.endpoint import EndpointEngine
from tasks.judges.words import word_logprobs
from tests.environment import bare_environment
from tests.tasks.engines.peer import answer, peer

pytestmark = pytest.mark.timeout(300)
KEY = "sk-test-0123456789-secret"
READY_S = 120
CONVERSATIONS = [
    [{"role": "user", "content": "Name three teas."}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?"}],
    [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "It is"}],
]


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of random weights that never ends by chance: its vocabulary is bytes."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
             "head_dim": 8, "rotary_fraction": 0.5, "init_std": 0.3, "max_positions": 512}  # fmt: skip
    model = init_model(ModelConfig("nemotron", tokenizer.vocab_size, eos_ids=(tokenizer.eos_id or 0,), **shape), 3)
    target = tmp_path_factory.mktemp("served") / "model"
    save_model(model, tokenizer, target)
    return target


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`ratchet serve`, which wants the key as its token."""
    log = tmp_path_factory.mktemp("log") / "serve.log"
    command = [str(Path(sys.executable).parent / "ratchet"), "serve", str(folder), "--port", "0", "--name", "weak"]
    variables = bare_environment("OPENAI_") | {"RATCHET_SERVE_TOKEN": KEY, "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=variables, cwd=log.parent)
    end = time.monotonic() + READY_S
    while not (ready := re.search(r"at (http://\S+/v1)", log.read_text())):
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    yield ready[1]
    process.send_signal(signal.SIGINT)
    process.wait(20)


@pytest.fixture
def hosted(url: str, monkeypatch: pytest.MonkeyPatch) -> EndpointEngine:
    monkeypatch.setenv("RATCHET_OPENAI_API_KEY", KEY)
    return EndpointEngine(EndpointModelConfig(url=url, model="weak"), EndpointResources(concurrency=4))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine(*load_model(folder), cache_bytes=1 << 26)
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.0, max_tokens=24),
        SamplingParams(temperature=1.0, top_p=0.9, top_k=20, max_tokens=16, seed=11, n=3),
        SamplingParams(temperature=1.2, min_p=0.02, repetition_penalty=1.3, max_tokens=16, seed=1 << 62, stop=["e"]),
        SamplingParams(temperature=1.0, max_tokens=12, seed=5, constraint=Constraint.choices(["yes", "no", "never"])),
    ],
    ids=["greedy", "sampled", "penalised", "constrained"],
)
def test_answers_are_those_of_the_engine(hosted: EndpointEngine, engine: Engine, params: SamplingParams) -> None:
    ours, theirs = engine.generate(CONVERSATIONS, params), hosted.generate(CONVERSATIONS, params)
    for mine, other in zip(ours, theirs, strict=True):
        assert not mine.error and not other.error
        assert [(one.text, one.finish_reason) for one in other.outputs] == [
            (one.text, one.finish_reason) for one in mine.outputs
        ]
        assert other.prompt_tokens == mine.prompt_tokens
    read = sum(one.prompt_tokens for one in ours)
    assert hosted.usage.prompt_tokens == read and hosted.usage.generated_tokens > 0


def test_what_is_too_long_is_one_rows_error(hosted: EndpointEngine) -> None:
    asked = [CONVERSATIONS[0], [{"role": "user", "content": "x" * 900}]]
    good, bad = hosted.generate(asked, SamplingParams(max_tokens=4))
    assert not good.error and bad.error and "context" in bad.error


def test_word_scores_are_those_of_the_engine_where_they_are_told(hosted: EndpointEngine, engine: Engine) -> None:
    """Letters are single bytes here; those that are not among the 20 likeliest get a bound from above."""
    params = SamplingParams(temperature=0.0, max_tokens=1, logprobs=20)
    (first,) = engine.generate(CONVERSATIONS[2:], params)
    assert first.outputs[0].logprobs
    top = {engine.tokenizer.decode([token]): value for token, value in first.outputs[0].logprobs[0].top}
    letters = [text for text in top if text.isascii() and text.strip() == text][:2]
    assert len(letters) == 2, top
    (ours,) = word_logprobs(engine, CONVERSATIONS[2:], letters, "")
    (theirs,) = word_logprobs(hosted, CONVERSATIONS[2:], letters, "")
    assert theirs == pytest.approx(ours, abs=1e-4)
    rare = next(chr(code) for code in range(97, 123) if chr(code) not in top)
    (ours,) = word_logprobs(engine, CONVERSATIONS[2:], (letters[0], rare), "")
    (theirs,) = word_logprobs(hosted, CONVERSATIONS[2:], (letters[0], rare), "")
    assert ours and theirs and theirs[1] >= ours[1], "a bound from above"


def test_a_wrong_key_is_refused(hosted: EndpointEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_OPENAI_API_KEY", "another")
    wrong = EndpointEngine(EndpointModelConfig(url=hosted.url, model="weak"), EndpointResources())
    with pytest.raises(InputError, match="correct RATCHET_OPENAI_API_KEY"):
        wrong.generate(CONVERSATIONS[:1], SamplingParams(max_tokens=2))


def test_a_ray_job_inherits_the_key_and_nothing_else_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded Ray hands its own environment down; job spec, Ray's records and logs never see the key."""
    monkeypatch.setenv("RATCHET_OPENAI_API_KEY", KEY)
    workspace = tmp_path / "workspace"
    with peer(lambda body, number: answer("Four.")) as server, Stack(workspace) as stack:
        address = str(stack.start({"ray"}).ray_address)
        exam, events = run_job(address, server.url, workspace)
        assert len(exam.rows()) == 8 and exam.manifest().metrics["prompt_tokens"] == 80
        assert {header["authorization"] for header in server.headers} == {f"Bearer {KEY}"}
        jobs = httpx.get(f"{address}/api/jobs/", timeout=20, trust_env=False).text
        assert "tasks.job" in jobs and KEY not in jobs + repr(events)
        files = [path for place in (tmp_path, ray_folder(workspace)) for path in place.rglob("*") if path.is_file()]
        assert len(files) > 20 and not [path for path in files if KEY.encode() in path.read_bytes()]


def run_job(address: str, url: str, workspace: Path) -> tuple[Artifact, list[Event]]:
    """An examination of the hosted model, submitted as `ratchet run` submits its jobs; with all that was told."""
    store = str(workspace / "store")
    model = make_step("weak", EndpointModelConfig(url=url, model="weak"), store, {})
    items = make_step("items", WorldItemsConfig(dev=6, gate=6, open=2), store, {})
    inputs = {"model": model.artifact, "evaluation_set": items.artifact}
    steps = [model, items, make_step("exam", EvaluateConfig(half="dev"), store, inputs)]
    spec = {"workspace": str(workspace), "threads": 1, "steps": [step.as_json() for step in steps]}
    name = job_id(store, steps)
    Storage.open(store).put(f"jobs/{name}/spec.json", json.dumps(spec).encode())
    command = shlex.join([sys.executable, "-P", "-m", "tasks.job", f"{store}#jobs/{name}/spec.json"])
    client = connect(address, 60)
    events = [*follow(client, submit(client, JobRequest(name, f"exec {command}", cpus=1)))]
    assert isinstance(events[-1], Finished) and events[-1].status == "SUCCEEDED", events[-1]
    return steps[-1].artifact, events
