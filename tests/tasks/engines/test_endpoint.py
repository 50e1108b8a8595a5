"""The endpoint engine against a real server that misbehaves in every way that servers do."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.errors import InputError, RatchetError, ServiceError, StageFailed
from infra.ports import free_ports
from models.engine import Constraint, SamplingParams
from tasks.configs.base import EndpointResources
from tasks.configs.endpoint_model import EndpointModelConfig
from tasks.engines.abilities import Metered, NoLogprobs, Scoring, Tokenized, WordScoring
from tasks.engines.check import check_model
from tasks.engines.endpoint import EndpointEngine
from tasks.engines.transport import pause, retry_after
from tests.tasks.engines.peer import Peer, Reply, Script, answer, answers, error, logprobs, peer

KEY = "sk-test-0123456789-secret"
PARAMS = SamplingParams(max_tokens=8, seed=3)
HUGE = 5 << 20


@pytest.fixture(autouse=True)
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-other-one")


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Peer]]:
    """`serve(script)` starts a server that ends with the test."""
    opened = []

    def start(script: Script) -> Peer:
        opened.append(peer(script))
        return opened[-1].__enter__()

    yield start
    for one in opened:
        one.__exit__(None, None, None)


def an_engine(url: str, **settings: Any) -> EndpointEngine:
    settings = {"longest_wait_s": 0.05, "attempts": 3} | settings
    return EndpointEngine(EndpointModelConfig(url=url, model="weak"), EndpointResources(**settings))


def asks(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": text}] for text in texts]


def said(body: dict[str, Any]) -> str:
    return body["messages"][-1]["content"]


def test_answers_come_in_order_with_all_that_was_asked(serve: Callable[[Script], Peer]) -> None:
    server = serve(lambda body, number: Reply(answer(f"to {said(body)}").body, slow_s=0.05 * (said(body) == "a")))
    engine = an_engine(server.url)
    told: list[tuple[int, int, int]] = []
    results = engine.generate(asks("a", "b", "c"), PARAMS, lambda *numbers: told.append(numbers))
    assert [result.text for result in results] == ["to a", "to b", "to c"]
    assert [(one.finish_reason, one.prompt_tokens, one.error) for one in results] == [("stop", 10, None)] * 3
    assert told == [(1, 3, 5), (2, 3, 10), (3, 3, 15)]
    assert {*server.paths} == {"/v1/chat/completions"}
    assert {header["authorization"] for header in server.headers} == {f"Bearer {KEY}"}
    assert sorted(server.asked, key=said)[0] == {
        "model": "weak", "messages": asks("a")[0], "max_tokens": 8, "temperature": 1.0, "top_p": 1.0, "seed": 3,
    }  # fmt: skip
    assert engine.generate([]) == [] and engine.word_logprobs([], ("A", "B")) == []
    assert isinstance(engine, Metered) and isinstance(engine, WordScoring)
    assert not isinstance(engine, Tokenized) and not isinstance(engine, Scoring)


def test_every_setting_has_its_field(serve: Callable[[Script], Peer]) -> None:
    server = serve(lambda body, number: answers(["x"] * body.get("n", 1), "length", 1, 1, logprobs=logprobs(x=-0.5)))
    params = SamplingParams(
        temperature=0.0, top_p=0.9, top_k=4, min_p=0.1, repetition_penalty=1.2, max_tokens=9, stop=["\n"],
        stop_token_ids=[7], seed=5, n=2, logprobs=3, constraint=Constraint("json_schema", '{"type": "object"}'),
    )  # fmt: skip
    (result,) = an_engine(server.url).generate(asks("a"), params)
    assert server.asked == [{
        "model": "weak", "messages": asks("a")[0], "max_tokens": 9, "temperature": 0.0, "top_p": 0.9, "seed": 5, "n": 2,
        "stop": ["\n"], "top_k": 4, "min_p": 0.1, "repetition_penalty": 1.2, "stop_token_ids": [7], "logprobs": True,
        "top_logprobs": 3,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
        },
    }]  # fmt: skip
    assert [one.finish_reason for one in result.outputs] == ["length", "length"]
    assert result.outputs[0].logprobs and result.outputs[0].logprobs[0].logprob == -0.5
    for kind, text, sent in (("choice", '["a", "b"]', {"choice": ["a", "b"]}), ("regex", "a+", {"regex": "a+"}),
                             ("lark", "start: A", {"grammar": "start: A"})):  # fmt: skip
        an_engine(server.url).generate(asks("a"), SamplingParams(constraint=Constraint(kind, text)))
        assert server.asked[-1]["structured_outputs"] == sent
    settings = {"token_limit": "max_completion_tokens", "leave_out": ("seed", "temperature", "top_p")}
    an_engine(server.url, **settings).generate(asks("a"), PARAMS)
    assert server.asked[-1] == {"model": "weak", "messages": asks("a")[0], "max_completion_tokens": 8}


def test_samples_that_the_server_does_not_give_at_once_are_asked_for(serve: Callable[[Script], Peer]) -> None:
    server = serve(lambda body, number: answer(str(body["seed"])))
    (result,) = an_engine(server.url).generate(asks("a"), SamplingParams(n=3, seed=(1 << 63) - 2))
    assert [one.text for one in result.outputs] == [str((1 << 63) - 2), str((1 << 63) - 1), "0"]
    assert [body.get("n") for body in server.asked] == [3, 2, None]
    an_engine(server.url, samples_per_request=1).generate(asks("a"), SamplingParams(n=2))
    assert all("n" not in body for body in server.asked[3:]) and len(server.asked) == 5


def test_no_more_requests_run_at_once_than_configured(serve: Callable[[Script], Peer]) -> None:
    server = serve(lambda body, number: Reply(answer().body, slow_s=0.02))
    an_engine(server.url, concurrency=3).generate(asks(*map(str, range(20))), PARAMS)
    assert server.most_at_once == 3 and len(server.asked) == 20
    an_engine(server.url, concurrency=1).generate(asks("a", "b", "c"), PARAMS)
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    "bad",
    [
        error(500, "oops"),
        error(503, "loading"),
        error(429, "slow down", retry_after="0"),
        error(408, "timeout"),
        Reply(b"<html>502 Bad Gateway</html>", 502),
        Reply(b'{"choices": ['),
        Reply({"choices": []}),
        Reply({"choices": [{"message": {"content": ["parts"]}}]}),
        Reply(b"[" * 100_000),
        Reply(b"\xff\xfe"),
        Reply(answer().data(), cut=True),
        Reply({"choices": [{"message": {"content": "x" * HUGE}}]}),
        Reply(b"\x1f\x8b", headers={"content-encoding": "gzip"}),
        Reply(b"{}", slow_s=0.7),
    ],
    ids=[
        "500",
        "503",
        "429",
        "408",
        "html",
        "half",
        "empty",
        "parts",
        "nested",
        "bytes",
        "cut",
        "huge",
        "gzip",
        "slow",
    ],
)
def test_a_request_is_tried_again(serve: Callable[[Script], Peer], bad: Reply) -> None:
    server = serve(lambda body, number: bad if number == 0 else answer("good"))
    (result,) = an_engine(server.url, answer_s=0.4 if bad.slow_s else 5.0).generate(asks("a"), PARAMS)
    assert result.text == "good" and len(server.asked) == 2


def test_retry_after_is_honoured_within_the_limit(serve: Callable[[Script], Peer]) -> None:
    server = serve(lambda body, number: error(429, "wait", retry_after="0.3") if number == 0 else answer())
    an_engine(server.url, longest_wait_s=5.0).generate(asks("a"), PARAMS)
    assert 0.3 <= server.times[1] - server.times[0] < 1.0
    server.script = lambda body, number: error(429, "wait", retry_after="3600") if number == 2 else answer()
    an_engine(server.url, longest_wait_s=0.1).generate(asks("a"), PARAMS)
    assert server.times[3] - server.times[2] < 1.0
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 25 < (retry_after({"retry-after": later}) or 0) <= 30
    assert [retry_after({"retry-after": text}) for text in ("soon", "", "-4")] == [None, None, 0.0]
    assert [0.25 * 2**n <= pause(n, None, 60.0) <= 0.5 * 2**n for n in range(5)] == [True] * 5
    assert pause(20, None, 60.0) <= 60.0 and pause(0, float("inf"), 60.0) == 60.0


def test_a_row_that_the_server_never_answers_is_an_error_and_the_others_are_not(
    serve: Callable[[Script], Peer],
) -> None:
    server = serve(lambda body, number: error(500, "bad\x1b[31m luck") if said(body) == "poison" else answer("good"))
    for texts in (["a", "poison", "b"], ["poison"]):
        results = an_engine(server.url).generate(asks(*texts), SamplingParams(max_tokens=8, n=2))
        (bad,) = [result for text, result in zip(texts, results, strict=True) if text == "poison"]
        assert bad.error and "answers 500: bad [31m luck" in bad.error and server.url in bad.error
        assert [(one.text, one.finish_reason) for one in bad.outputs] == [("", "error")] * 2
        assert [result.text for result in results if not result.error] == ["good"] * (len(texts) - 1)


def test_rows_that_are_too_long_are_errors_each(serve: Callable[[Script], Peer]) -> None:
    said_so = "This model's maximum context length is 128 tokens. However, you requested max_tokens=8 more."
    server = serve(lambda body, number: error(400, said_so, code="context_length_exceeded"))
    results = an_engine(server.url).generate(asks("a", "b"), PARAMS)
    assert [result.error and result.error.startswith("does not fit") for result in results] == [True, True]
    assert len(server.asked) == 2


def test_a_filtered_answer_is_none(serve: Callable[[Script], Peer]) -> None:
    server = serve(lambda body, number: answer("half of it", "content_filter"))
    (result,) = an_engine(server.url).generate(asks("a"), PARAMS)
    assert result.error and "content filter" in result.error and result.text == ""


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (error(401, f"Incorrect API key: {KEY}"), InputError, ["401", "correct RATCHET_OPENAI_API_KEY", "[key]"]),
        (error(403, "no"), InputError, ["403", "may not use this model"]),
        (error(404, "The model `weak` does not exist", "model_not_found"), InputError, ["no model 'weak'", "/v1"]),
        (Reply(b"Not Found", 404), InputError, ["no model 'weak'", "/chat/completions"]),
        (error(400, "weak is not a valid model ID"), RatchetError, ["weak"]),
        (error(402, "pay"), StageFailed, ["paid", "credit"]),
        (error(429, "You exceeded your current quota", "insufficient_quota"), StageFailed, ["429", "credit"]),
        (Reply(status=308, headers={"location": "https://there.example"}), InputError, ["redirect", "there.example"]),
        (error(400, "Unrecognized request argument supplied: top_k"), StageFailed, ["'top_k'", "stage's top_k to 0"]),
        (error(422, "bad", param="seed"), StageFailed, ["'seed'", "endpoint.leave_out='[seed]'"]),
        (Reply({"detail": [{"loc": ["body", "stop"], "msg": "too many"}]}, 422), StageFailed, ["'stop'", "too many"]),
        (error(400, "Unsupported parameter: 'max_tokens'"), StageFailed, ["token_limit=max_completion_tokens"]),
        (error(400, "roles must alternate"), StageFailed, ["all 3 requests failed", "roles must alternate"]),
        (error(500, "down"), StageFailed, ["answers 500: down", "nobody else"]),
        (Reply(b"no json"), StageFailed, ["no JSON: 'no json'"]),
    ],
)  # fmt: skip
def test_what_no_row_gets_past_ends_the_stage_with_a_remedy(
    serve: Callable[[Script], Peer], reply: Reply, kind: type[RatchetError], words: list[str]
) -> None:
    server = serve(lambda body, number: reply)
    with pytest.raises(kind) as raised:
        an_engine(server.url).generate(asks("a", "b", "c"), SamplingParams(top_k=5, stop=["x"]))
    assert all(word in str(raised.value) for word in words), str(raised.value)
    assert raised.value.remedy and KEY not in str(raised.value) and "\n" not in str(raised.value)
    assert len(server.asked) <= 3 * 3 + 3, "not a thousand tries"


def test_a_server_that_is_gone_ends_the_stage_soon() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}/v1"
    started = time.monotonic()
    with pytest.raises(StageFailed, match="cannot be reached") as raised:
        an_engine(url, concurrency=4).generate(asks(*map(str, range(1000))), PARAMS)
    assert url in raised.value.message and time.monotonic() - started < 5


def test_a_server_that_dies_in_between_ends_the_stage_and_not_its_rows(serve: Callable[[Script], Peer]) -> None:
    server = serve(lambda body, number: answer() if number < 4 else error(502, "gone"))
    with pytest.raises(StageFailed, match="answers 502"):
        an_engine(server.url, concurrency=1).generate(asks(*"abcdefgh"), PARAMS)


def test_redirects_are_not_followed_and_the_key_goes_nowhere_else(serve: Callable[[Script], Peer]) -> None:
    thief = serve(lambda body, number: answer())
    server = serve(lambda body, number: Reply(status=307, headers={"location": f"{thief.url}/chat/completions"}))
    with pytest.raises(InputError, match="redirect"):
        an_engine(server.url).generate(asks("a"), PARAMS)
    assert thief.asked == [] and len(server.asked) == 1


def test_plain_http_is_for_this_machine() -> None:
    for url in ("http://models.example/v1", "http://10.0.0.3:8000/v1", "http://127.0.0.1.evil.example/v1"):
        with pytest.raises(InputError, match=r"not encrypted.*endpoint\.allow_http=true"):
            an_engine(url)
        an_engine(url, allow_http=True)
    for url in ("http://127.0.0.1:1/v1", "http://localhost/v1", "http://[::1]:8/v1", "https://models.example/v1"):
        an_engine(url)


def test_the_key_is_never_shown(serve: Callable[[Script], Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    escaped = json.dumps(f"your key is {KEY}").replace("-", "\\u002d").encode()
    server = serve(lambda body, number: Reply(b'{"choices": [{"message": {"content": ' + escaped + b"}}]}"))
    engine = an_engine(server.url)
    assert engine.generate(asks("a"), PARAMS)[0].text == "your key is [key]"
    assert KEY not in repr(engine) + repr(vars(engine)) + repr(vars(engine._transport))
    monkeypatch.setenv("RATCHET_OPENAI_API_KEY", "two\nlines")
    with pytest.raises(InputError, match="RATCHET_OPENAI_API_KEY holds blanks") as raised:
        an_engine(server.url)
    assert "two" not in str(raised.value)
    monkeypatch.setenv("RATCHET_OPENAI_API_KEY", " ")
    an_engine(server.url).generate(asks("a"), PARAMS)
    assert server.headers[-1]["authorization"] == "Bearer sk-the-other-one"
    monkeypatch.delenv("OPENAI_API_KEY")
    an_engine(server.url).generate(asks("a"), PARAMS)
    assert "authorization" not in server.headers[-1]
    server.script = lambda body, number: error(401, "who are you?")
    with pytest.raises(InputError, match="no key was sent: set RATCHET_OPENAI_API_KEY"):
        an_engine(server.url).generate(asks("a"), PARAMS)


def test_tokens_and_cost_are_counted(serve: Callable[[Script], Peer]) -> None:
    server = serve(lambda body, number: answer(prompt=1000, written=200))
    engine = an_engine(server.url, prompt_price=0.5, answer_price=2.0)
    engine.generate(asks("a", "b"), PARAMS)
    assert engine.usage.metrics() == pytest.approx({"prompt_tokens": 2000, "generated_tokens": 400, "cost": 0.0018})
    for usage in (
        {"prompt_tokens": -5, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        "much",
    ):
        server.script = lambda body, number, usage=usage: Reply(answer().body | {"usage": usage})
        engine.generate(asks("a"), PARAMS)
    assert engine.usage.metrics()["unmetered_answers"] == 3 and engine.usage.prompt_tokens == 2000


def test_answers_are_cut_before_stop_texts_and_hold_no_surrogates(serve: Callable[[Script], Peer]) -> None:
    server = serve(lambda body, number: Reply(b'{"choices": [{"message": {"content": "a\\ud800b\\nc"}}]}'))
    (result,) = an_engine(server.url).generate(asks("a"), SamplingParams(stop=["\n"]))
    assert (result.text, result.finish_reason) == ("a?b", "stop")
    server.script = lambda body, number: answer(None, "tool_calls")  # type: ignore[arg-type]
    assert an_engine(server.url).generate(asks("a"), PARAMS)[0].text == ""


BEGUN = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "It is"}]


def test_an_answer_that_has_begun_is_gone_on_with(serve: Callable[[Script], Peer]) -> None:
    server = serve(lambda body, number: answer(" blue"))
    assert an_engine(server.url).generate([BEGUN], PARAMS)[0].text == " blue"
    assert server.asked[-1]["messages"] == BEGUN
    assert (server.asked[-1]["continue_final_message"], server.asked[-1]["add_generation_prompt"]) == (True, False)
    an_engine(server.url, continuation="plain").generate([BEGUN], PARAMS)
    assert server.asked[-1]["messages"] == BEGUN and "continue_final_message" not in server.asked[-1]
    for text, left in (("It is blue", " blue"), ("Blue it is", "Blue it is")):
        server.script = lambda body, number, text=text: answer(text)
        assert an_engine(server.url, continuation="ask").generate([BEGUN], PARAMS)[0].text == left
    (asked,) = server.asked[-1]["messages"]
    assert asked["role"] == "user" and asked["content"].startswith("Say it.\n\n") and asked["content"].endswith("It is")
    server.script = lambda body, number: error(400, "Unrecognized argument: continue_final_message")
    with pytest.raises(StageFailed, match=r"endpoint\.continuation=ask"):
        an_engine(server.url).generate([BEGUN], PARAMS)


def test_token_ids_are_no_conversation(serve: Callable[[Script], Peer]) -> None:
    engine = an_engine("http://127.0.0.1:1/v1")
    for prompt in ([1, 2, 3], []):
        with pytest.raises(ValueError, match="takes conversations"):
            engine.generate([prompt])
    with pytest.raises(ValueError, match="1 sampling params for 2"):
        engine.generate(asks("a", "b"), [PARAMS])


def test_words_are_scored_from_the_likeliest_tokens(serve: Callable[[Script], Peer]) -> None:
    told = {"a": logprobs(_A=-1.0, _B=-2.0), "spellings": logprobs(A=-1.0, _A=-1.0, _B=-2.0, x=-5.0),
            "one": logprobs(_A=-0.01, y=-6.0)}  # fmt: skip
    server = serve(lambda body, number: answer(" A", logprobs=told.get(said(body))))
    engine = an_engine(server.url)
    scores = engine.word_logprobs(asks("a", "spellings", "one"), (" A", " B"))
    assert scores[0] == pytest.approx((-1.0, -2.0))
    assert scores[1] == pytest.approx((-0.3069, -2.0), abs=1e-3), "both spellings count together"
    assert scores[2] == pytest.approx((-0.01, -6.0)), "no more likely than the least likely of the tokens told"
    body = server.asked[0]
    assert (body["max_tokens"], body["temperature"], body["logprobs"], body["top_logprobs"]) == (1, 0.0, True, 20)
    told["alone"] = {"content": [{"token": " A", "logprob": -0.001}]}
    (alone,) = engine.word_logprobs(asks("alone"), (" A", " B"))
    assert alone == pytest.approx((-0.001, -6.908), abs=1e-3), "no more than the probability that is left"
    server.script = lambda body, number: error(400, "context is full") if said(body) == "long" else answer(
        logprobs=told["a"])  # fmt: skip
    assert engine.word_logprobs(asks("long", "a"), (" A", " B"))[0] is None
    an_engine(server.url, continuation="ask").word_logprobs([BEGUN], (" A", " B"))
    assert server.asked[-1]["messages"][-1]["content"].endswith("one of these: A, B")


@pytest.mark.parametrize("reply", [answer(" A"), answer(" A", logprobs=None), error(400, "no `logprobs` here"),
                                   error(422, "bad", param="top_logprobs")])  # fmt: skip
def test_no_log_probabilities_is_found_with_one_request(serve: Callable[[Script], Peer], reply: Reply) -> None:
    server = serve(lambda body, number: reply)
    with pytest.raises(NoLogprobs, match=r"logprobs|log-probabilities"):
        an_engine(server.url).word_logprobs(asks(*map(str, range(9))), (" A", " B"))
    assert len(server.asked) == 1


def test_the_check_asks_for_one_token(serve: Callable[[Script], Peer]) -> None:
    server = serve(lambda body, number: answer())
    model, settings = EndpointModelConfig(url=server.url, model="weak"), EndpointResources(longest_wait_s=0.05)
    check_model(model, settings)
    assert len(server.asked) == 1 and server.asked[0]["max_tokens"] == 1 and server.asked[0]["continue_final_message"]
    outcomes = [
        (error(401, "who?"), InputError),
        (error(404, "?"), InputError),
        (error(400, "?"), InputError),
        (error(400, "no continue_final_message"), StageFailed),
        (error(500, "?"), ServiceError),
        (error(429, "busy"), None),
    ]
    for reply, kind in outcomes:
        server.script = lambda body, number, reply=reply: reply
        if kind is None:
            check_model(model, settings)
            continue
        with pytest.raises(kind):
            check_model(model, settings)
    with pytest.raises(ServiceError, match="cannot be reached"):
        check_model(EndpointModelConfig(url="http://127.0.0.1:9/v1", model="weak"), settings)
