"""`ratchet serve` as its users meet it: a process of its own, talked to with the official client and with bare HTTP."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from models.checkpoint import load_model
from models.engine import Engine, SamplingParams
from tests.environment import bare_environment

TOKEN = "a-secret-of-41-characters-that-none-prints"
TEA = [{"role": "user", "content": "Name three teas."}]
WILD: dict[str, Any] = {"temperature": 1.7, "max_tokens": 24}
"""Torn characters and rare tokens."""


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str
    log: Path

    def client(self, key: str = "none", **more: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **{"max_retries": 0, "timeout": 60, **more})

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


def start(folder: Path, log: Path, *options: str, token: str | None = None) -> Running:
    command = [sys.executable, "-m", "deployments.cli", "serve", str(folder), "--port", "0", "--verbose", *options]
    # Two threads beside a busy process are slower than one.
    variables = (
        bare_environment() | {"OMP_NUM_THREADS": "1"} | ({} if token is None else {"RATCHET_SERVE_TOKEN": token})
    )
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, text=True, env=variables)
    end = time.monotonic() + 90
    while not (ready := re.search(r"^serving .* at (http://\S+)/v1 \(Ctrl-C ends\)$", log.read_text(), re.M)):
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    return Running(process, ready[1], log)


@pytest.fixture(scope="module")
def server(smollm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start(smollm_folder, tmp_path_factory.mktemp("serve") / "log", "--name", "smol/lm")
    yield running
    assert running.end() == 130, running.log.read_text()
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return server.client()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many as the server has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def engine(smollm_folder: Path) -> Engine:
    return Engine(*load_model(smollm_folder), cache_bytes=2**29)


def chat(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": "smol/lm", "messages": TEA, "max_tokens": 9, **more})


def complete(client: openai.OpenAI, **more: Any) -> Any:
    return client.completions.create(**{"model": "smol/lm", "prompt": "Tea is", "max_tokens": 8, **more})


def post(server: Running, path: str = "chat/completions", **more: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/{path}", json={"model": "smol/lm", "messages": TEA, "max_tokens": 4, **more})


# What is answered


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "smol/lm" and client.models.retrieve("smol/lm") == model
    with pytest.raises(openai.NotFoundError, match="'nosuch' does not exist"):
        client.models.retrieve("nosuch")


def test_greedy_answers_are_the_engines(client: openai.OpenAI, engine: Engine) -> None:
    questions = [TEA, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?"}]]
    results = engine.generate(questions, SamplingParams(temperature=0, max_tokens=16))
    for question, result in zip(questions, results, strict=True):
        answer = chat(client, messages=question, temperature=0, max_completion_tokens=16)
        (choice,) = answer.choices
        assert choice.message.content == result.text and choice.finish_reason == result.finish_reason
        assert answer.usage.prompt_tokens == result.prompt_tokens
        assert answer.usage.completion_tokens == len(result.token_ids)
    parts = [{"type": "text", "text": "Name three teas."}]
    same = chat(client, messages=[{"role": "user", "content": parts}], temperature=0)
    assert same.choices[0].message.content == chat(client, temperature=0).choices[0].message.content


def test_a_last_message_of_the_assistant_is_continued(client: openai.OpenAI, engine: Engine) -> None:
    started = [*TEA, {"role": "assistant", "content": "Green tea,"}]
    expected = engine.generate([started], SamplingParams(temperature=0, max_tokens=9))[0].text
    more = {"messages": started, "temperature": 0, "extra_body": {"continue_final_message": True}}
    assert chat(client, **more).choices[0].message.content == expected
    with pytest.raises(openai.BadRequestError, match="continue_final_message"):
        chat(client, messages=TEA, extra_body={"continue_final_message": True})


def streamed(chunks: Any) -> tuple[dict[int, str], dict[int, str], Any]:
    """Texts and finish reasons by choice, and the usage."""
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text = choice.delta.content if hasattr(choice, "delta") else choice.text
            texts[choice.index] = texts.get(choice.index, "") + (text or "")
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    return texts, reasons, usage


@pytest.mark.parametrize("seed", [1, 2])
def test_the_streamed_text_is_the_unstreamed_one(client: openai.OpenAI, seed: int) -> None:
    asked = {**WILD, "seed": seed, "n": 3, "stop": ["e t", "ou", "\n\n"], "messages": [
        {"role": "user", "content": "Write emoji and Chinese: 🙂🍵 茶は好きですか"}]}  # fmt: skip
    whole = chat(client, **asked)
    texts, reasons, usage = streamed(chat(client, **asked, stream=True, stream_options={"include_usage": True}))
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage == whole.usage and len(set(texts.values())) == 3
    assert not any(stop in text for text in texts.values() for stop in asked["stop"])


def test_a_seed_decides_whatever_else_is_asked(client: openai.OpenAI) -> None:
    asked = WILD | {"max_tokens": 16}
    alone = [complete(client, **asked, seed=seed).choices[0].text for seed in range(3)]
    with ThreadPoolExecutor(8) as pool:
        noise = [pool.submit(chat, client, temperature=1.0, max_tokens=8 + n) for n in range(3)]
        together = [*pool.map(lambda seed: complete(client, **asked, seed=seed).choices[0].text, range(3))]
        assert all(one.result().choices for one in noise)
    assert together == alone and len(set(alone)) == 3
    assert len({complete(client, **asked).choices[0].text for _ in range(2)}) == 2, "without a seed each differs"


def test_logprobs_of_a_chat(client: openai.OpenAI, engine: Engine) -> None:
    asked = {"temperature": 0, "logprobs": True, "top_logprobs": 2}
    answer = chat(client, **asked)
    content = answer.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in content).decode() == answer.choices[0].message.content
    assert len(content) == answer.usage.completion_tokens
    assert all(token.logprob == token.top_logprobs[0].logprob > token.top_logprobs[1].logprob for token in content)
    expected = engine.generate([TEA], SamplingParams(temperature=0, max_tokens=9, logprobs=2))[0].outputs[0].logprobs
    assert [token.logprob for token in content] == pytest.approx([one.logprob for one in expected or ()], abs=1e-3)
    pieces = [chunk.choices[0].logprobs for chunk in chat(client, **asked, stream=True)]
    assert [token for piece in pieces if piece for token in piece.content] == content


def test_completions_take_prompts_in_four_forms(client: openai.OpenAI, engine: Engine) -> None:
    token_ids = engine.tokenizer.encode("Tea is")
    for prompt in ("Tea is", ["Tea is"], token_ids, [token_ids, engine.tokenizer.encode("Coffee is")]):
        answer = complete(client, prompt=prompt, temperature=0, n=2)
        expected = engine.generate([token_ids], SamplingParams(temperature=0, max_tokens=8))[0].text
        assert [choice.index for choice in answer.choices] == [*range(len(answer.choices))]
        assert [choice.text for choice in answer.choices[:2]] == [expected, expected]
    assert len(answer.choices) == 4 and answer.choices[2].text != expected
    assert answer.usage.prompt_tokens == len(token_ids) + len(engine.tokenizer.encode("Coffee is"))
    texts, reasons, usage = streamed(complete(client, prompt=prompt, temperature=0, n=2, stream=True, echo=True))
    assert texts[0] == "Tea is" + expected and reasons == dict.fromkeys(range(4), "length") and usage is None


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_echo_scores_a_text_as_lm_eval_asks(client: openai.OpenAI, engine: Engine, max_tokens: int) -> None:
    texts = ["The capital of France is Paris", "茶 🍵!", "x"]
    prompts = [engine.tokenizer.encode(text) for text in texts]
    answer = complete(client, prompt=prompts, echo=True, logprobs=1, max_tokens=max_tokens, temperature=0, seed=1234)
    scored = engine.logprobs([prompt[:1] for prompt in prompts], [prompt[1:] for prompt in prompts])
    for choice, text, prompt, scores in zip(answer.choices, texts, prompts, scored, strict=True):
        found = choice.logprobs
        assert choice.text.startswith(text) and (max_tokens or choice.text == text)
        assert len(found.tokens) == len(found.text_offset) == len(found.top_logprobs) == len(prompt) + max_tokens
        assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
        assert found.token_logprobs[1 : len(prompt)] == pytest.approx(scores, abs=1e-3)
        assert all(
            max(top.values()) >= one for top, one in zip(found.top_logprobs[1:], found.token_logprobs[1:], strict=True)
        )
    first = answer.choices[0].logprobs
    assert first.tokens[:3] == ["The", " capital", " of"] and first.text_offset[:3] == [0, 3, 11]
    # " Paris" is the likeliest token there, so that it counts as greedy; " capital" is not.
    assert max(first.top_logprobs[5].values()) == first.token_logprobs[5]
    assert max(first.top_logprobs[1].values()) > first.token_logprobs[1]
    assert answer.usage.completion_tokens <= 3 * max_tokens


def test_shapes_and_the_usual_extras(client: openai.OpenAI) -> None:
    for shape in ({"guided_choice": ["never", "always"]}, {"structured_outputs": {"choice": ["never", "always"]}}):
        assert chat(client, extra_body=shape).choices[0].message.content in ("never", "always")
    assert re.fullmatch("[ab]{3}", chat(client, extra_body={"guided_regex": "[ab]{3}"}).choices[0].message.content)
    schema = {"type": "object", "properties": {"tea": {"enum": ["green", "black"]}}, "required": ["tea"],
              "additionalProperties": False}  # fmt: skip
    wanted = {"type": "json_schema", "json_schema": {"name": "tea", "schema": schema}}
    answer = chat(client, response_format=wanted, max_tokens=60).choices[0]
    assert json.loads(answer.message.content)["tea"] in ("green", "black") and answer.finish_reason == "stop"
    greedy = chat(client, temperature=0).choices[0].message.content
    extras = {"top_k": 1, "min_p": 0.1, "repetition_penalty": 1.0, "stop_token_ids": [5], "skip_special_tokens": True}
    assert chat(client, extra_body=extras, top_p=0.9).choices[0].message.content == greedy
    harmless = {"user": "me", "metadata": {"a": "b"}, "store": False, "presence_penalty": 0, "logit_bias": {}}
    assert chat(client, temperature=0, **harmless).choices[0].message.content == greedy


# What is refused


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "not supported"),
        ({"logit_bias": {"5": 3}}, "logit_bias", "not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty", "not supported"),
        ({"store": True}, "store", "not supported"),
        ({"tempreature": 0.5}, "tempreature", "unrecognized"),
        ({"temperature": -1}, "temperature", "expected 0"),
        ({"temperature": "hot"}, "temperature", "number"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"n": 0}, "n", "expected 1 to"),
        ({"n": 100_000}, "n", "expected 1 to 128"),
        ({"top_logprobs": 3}, "top_logprobs", "logprobs: true"),
        ({"stop": [""]}, "stop", "at least one character"),
        ({"seed": 2**64}, "seed", "64 bits"),
        ({"messages": []}, "messages", "expected 1 to 1000"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "expected one of"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]", "text only"),
        ({"messages": [{"role": "user", "content": "tea " * 9000}]}, "messages", "context of 8192"),
        ({"response_format": {"type": "xml"}}, "response_format", "expected text, json_object"),
        ({"guided_regex": "(("}, "response_format", "regex"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "response_format", "2 shapes"),
        ({"guided_choice": []}, "guided_choice", "choice cannot be"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(server: Running, fields: dict[str, Any], param: str, words: str) -> None:
    answer = post(server, **fields)
    error = answer.json()["error"]
    assert answer.status_code == 400 and set(error) == {"message", "type", "param", "code"}, error
    assert (error["type"], error["param"]) == ("invalid_request_error", param) and words in error["message"], error


@pytest.mark.parametrize("prompt", ["", [], [[]], [10**9], [-1], {"a": 1}, [1, "x"], [True], None, 5])
def test_prompts_that_are_none(server: Running, prompt: Any) -> None:
    answer = httpx.post(f"{server.url}/v1/completions", json={"model": "smol/lm", "prompt": prompt})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "prompt", answer.text


def test_errors_are_the_clients_exceptions(server: Running, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist") as missing:
        chat(client, model="gpt-9")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        complete(client, prompt="tea " * 9000)
    assert long.value.code == "context_length_exceeded" and long.value.param == "prompt"
    with pytest.raises(openai.BadRequestError, match="max_tokens is 0"):
        complete(client, max_tokens=0)
    for path, method, status in (("/v1/embeddings", "POST", 404), ("/v1/models", "POST", 405), ("/docs", "GET", 404)):
        answer = httpx.request(method, server.url + path, json={})
        assert answer.status_code == status and set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 10_000, b'{"model": NaN}', b'{"model": "\\ud800"}', b"\xff"])
def test_bodies_that_are_no_requests(server: Running, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_large_bodies_and_other_sorts_are_refused(server: Running) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 2**20

    url, headers = f"{server.url}/v1/chat/completions", {"Content-Type": "application/json"}
    assert httpx.post(url, content=parts(), headers=headers).status_code == 413
    # What a web page may send without asking the browser first.
    assert httpx.post(url, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    answer = httpx.options(url, headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"})
    assert answer.status_code == 405 and not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", ""])
def test_names_of_strangers_are_refused(server: Running, host: str) -> None:
    for path in ("/health", "/v1/models"):
        assert httpx.get(server.url + path, headers={"Host": host}).status_code == 403
    for ours in ("localhost", "LOCALHOST:1", "[::1]:80", "127.0.0.1"):
        assert httpx.get(f"{server.url}/v1/models", headers={"Host": ours}).status_code == 200


# A server with a token and room for one row


@pytest.fixture(scope="module")
def narrow(smollm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    options = ("--name", "smol/lm", "--max-rows", "1", "--max-waiting", "0")
    running = start(smollm_folder, tmp_path_factory.mktemp("narrow") / "log", *options, token=TOKEN)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def test_the_token_is_asked_for(narrow: Running) -> None:
    for key in ("wrong", TOKEN[:-1], TOKEN + "x", "é".encode().decode("latin-1")):
        answer = httpx.get(f"{narrow.url}/v1/models", headers={"Authorization": f"Bearer {key}".encode("latin-1")})
        assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        chat(narrow.client("wrong"))
    for path in ("/v1/models", "/docs", "/nosuch", "/health/", "//health"):
        assert httpx.get(narrow.url + path).status_code == 401, path
    assert httpx.get(f"{narrow.url}/v1/models", headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401
    assert httpx.get(f"{narrow.url}/health").json() == {"status": "ok"}
    assert narrow.client(TOKEN).models.list().data


def until_free(ask: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while True:
        try:
            return ask()
        except openai.RateLimitError:
            assert time.monotonic() < end, "the row of a client that is gone was never freed"
            time.sleep(0.05)


ENDLESS = {"temperature": 0, "max_tokens": 8000, "extra_body": {"guided_regex": "(a|b|c|d){9000}"}}


def test_a_client_that_leaves_frees_its_row(narrow: Running) -> None:
    client = narrow.client(TOKEN)
    stream = chat(client, **ENDLESS, stream=True)
    next(iter(stream))
    with pytest.raises(openai.RateLimitError, match="busy"):
        chat(client)
    with pytest.raises(openai.BadRequestError, match="1 to 1 choices"):
        chat(client, n=2)
    stream.close()
    assert until_free(lambda: chat(client)).choices
    # Likewise where nothing is streamed.
    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(timeout=0.7), **ENDLESS)
    assert until_free(lambda: chat(client)).choices


def test_ctrl_c_ends_within_seconds_with_an_open_stream(narrow: Running) -> None:
    stream = iter(chat(narrow.client(TOKEN), **ENDLESS, stream=True))
    next(stream), next(stream)
    started = time.monotonic()
    narrow.process.send_signal(signal.SIGINT)
    with pytest.raises(openai.APIError, match="closed"):
        list(stream)
    assert narrow.process.wait(20) == 130 and time.monotonic() - started < 5
    log = narrow.log.read_text()
    assert "POST /v1/chat/completions 200" in log and "GET /v1/models 401" in log
    assert TOKEN not in log and "Traceback" not in log, log


# The command


def test_strangers_need_a_token(ratchet: Any, model_folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        ended = ratchet("serve", model_folder(), "--host", host)
        assert ended.code == 2 and len(ended.err.splitlines()) == 1 and "RATCHET_SERVE_TOKEN" in ended.err
    monkeypatch.setenv("RATCHET_SERVE_TOKEN", "two words")
    ended = ratchet("serve", model_folder(), "--host", "0.0.0.0")
    assert ended.code == 2 and "RATCHET_SERVE_TOKEN holds blanks" in ended.err and "two words" not in ended.err


def test_a_port_in_use_and_other_bad_input(ratchet: Any, model_folder: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = ratchet("serve", model_folder(), "--port", port)
    assert ended.code == 1 and len(ended.err.splitlines()) == 1, ended.err
    assert f"127.0.0.1:{port}" in ended.err and "--port" in ended.err
    assert ratchet("serve", "/no/such/model", "--port", "0").code == 2
    assert ratchet("serve", model_folder(), "--port", "70000").code == 2
