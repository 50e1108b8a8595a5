"""Answers as they grow: the increments are the answer, requests come and go, and nothing that fails hangs."""

import json
import string
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from random import Random
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, pre_tokenizers

from models.engine import Engine, SamplingParams
from models.engine.increments import Increments
from models.engine.interface import Constraint, TokenLogprob
from models.engine.live import Busy, Increment, LiveEngine, Read, Refused, Stopped
from models.engine.rows import Ending, Row
from models.tokenizer import Tokenizer

ENDLESS = SamplingParams(max_tokens=1500, constraint=Constraint("regex", "[ab]{1600}"))
LONG = SamplingParams(temperature=1.0, max_tokens=1500, seed=1)


def byte_level() -> Tokenizer:
    """A token for each byte, some of two, and two special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<end>", "<hidden>", *letters, "EN", "ND", "ðŁ"]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({word: number for number, word in enumerate(words)}, []))
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<end>", "<hidden>"])
    return Tokenizer(backend, eos_id=0)


def byte_fallback() -> Tokenizer:
    """As Llama's: pieces with a sign for the space, single bytes for all that no piece covers."""
    words = ["<end>", "<hidden>", *(f"<0x{byte:02X}>" for byte in range(256)),
             "▁", "▁E", "END", "N", "D", "▁and", "é", "x", "�"]  # fmt: skip
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({word: number for number, word in enumerate(words)}, []))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<end>", "<hidden>"])
    return Tokenizer(backend, eos_id=0)


KINDS = {"bytes": byte_level(), "fallback": byte_fallback()}
STOPS = ("END", "ND E", "é", "🙂", "a", "\n\n", "x x")


@st.composite
def growing(draw: Any) -> tuple[Tokenizer, list[int], list[str], set[int]]:
    """Tokens of likely and unlikely characters, whole and torn; stop texts; steps at which the row starts over."""
    tokenizer = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    pieces = [list(text.encode()) for text in ("é", "🙂", "日", "E", "ND", "END", " ", "a", "x x", "\n", "�")]
    torn = draw(st.lists(st.one_of(st.sampled_from(pieces), st.lists(st.integers(0, 255), max_size=3)), max_size=12))
    names = {value: key for key, value in byte_names(tokenizer).items()}
    tokens = [names[byte] for piece in torn for byte in piece]
    for place in sorted(draw(st.lists(st.integers(0, 40), max_size=6))):
        tokens.insert(place, draw(st.integers(1, tokenizer.vocab_size - 1)))
    stops = draw(st.lists(st.sampled_from(STOPS), max_size=3, unique=True))
    return tokenizer, [*tokens, 0], stops, set(draw(st.lists(st.integers(1, 30), max_size=2)))


def byte_names(tokenizer: Tokenizer) -> dict[int, int]:
    """The byte of each token that is one."""
    if tokenizer is KINDS["fallback"]:
        return {2 + byte: byte for byte in range(256)}
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}
    return {tokenizer.token_id(letter): byte for letter, byte in letters.items()}


@settings(max_examples=600, deadline=None)
@given(growing(), st.integers(0, 3))
def test_increments_are_the_answer(case: tuple[Tokenizer, list[int], list[str], set[int]], patience: int) -> None:
    tokenizer, tokens, stops, restarts = case
    ending = Ending(tokenizer, frozenset({0}), frozenset({1}), 10_000)
    row = Row((5,), SamplingParams(stop=stops, max_tokens=1000, logprobs=0), ending, 0)
    increments, texts, told = Increments(row), [], []
    step = number = 0
    while True:
        if step in restarts:  # it has to give way: the same tokens come again
            restarts.discard(step)
            row.restart()
            number = 0
        row.logprobs.append(TokenLogprob(tokens[number], -1.0))
        done = row.accept(tokens[number])
        step, number = step + 1, number + 1
        if done:
            break
        if step % (patience + 1) == 0:
            text, logprobs = increments.advance()
            texts.append(text)
            told += logprobs
    assert row.completion is not None
    text, logprobs = increments.finish(row.completion)
    assert "".join([*texts, text]) == row.completion.text
    assert tuple(one.token_id for one in [*told, *logprobs]) == row.completion.token_ids


def test_text_is_told_as_soon_as_it_is_safe() -> None:
    tokenizer = KINDS["bytes"]
    names = {value: key for key, value in byte_names(tokenizer).items()}
    row = Row((5,), SamplingParams(stop=["END"], max_tokens=100), Ending(tokenizer, frozenset(), frozenset(), 999), 0)
    increments, told = Increments(row), []
    for byte in "aéEx🙂EN.".encode():
        row.accept(names[byte])
        told.append(increments.advance()[0])
    assert told == ["a", "", "é", "", "Ex", "", "", "", "🙂", "", "", "EN."]


@pytest.fixture
def make_engine(make_model: Callable[..., Any], tokenizer: Tokenizer) -> Callable[..., Engine]:
    return lambda **limits: Engine(make_model(), tokenizer, **({"cache_bytes": 2**28} | limits))


def prompts(count: int) -> list[list[int]]:
    draw = Random(5)
    return [[draw.randrange(5, 200) for _ in range(draw.randrange(1, 90))] for _ in range(count)]


def various(count: int) -> list[SamplingParams]:
    letters = string.ascii_letters
    return [
        SamplingParams(temperature=(0.0, 1.0)[n % 2], max_tokens=10 + 9 * (n % 5), seed=n, n=1 + n % 3, logprobs=1,
                       stop=[letters[n % 7], letters[n % 11 + 9]])
        for n in range(count)
    ]  # fmt: skip


def collect(live: LiveEngine, prompt: Sequence[int], params: SamplingParams) -> list[Any]:
    """The completions; their increments are checked to be them."""
    texts, tokens, done = [""] * params.n, [[] for _ in range(params.n)], [None] * params.n
    for increment in live.stream(prompt, params):
        texts[increment.sample] += increment.text
        tokens[increment.sample] += [one.token_id for one in increment.logprobs]
        done[increment.sample] = increment.completion
    for text, token_ids, completion in zip(texts, tokens, done, strict=True):
        assert completion is not None and text == completion.text
        assert tuple(token_ids) == (completion.token_ids if params.logprobs is not None else ())
    return done


@pytest.mark.parametrize("limits", [{}, {"max_rows": 3}, {"cache_bytes": 700 * 2 * 2 * 2 * 16 * 4}])
def test_threads_get_what_one_call_gives(make_engine: Callable[..., Engine], limits: dict[str, int]) -> None:
    asked, params = prompts(14), various(14)
    expected = [list(result.outputs) for result in make_engine().generate(asked, params)]
    found: dict[int, list[Any]] = {}
    with LiveEngine(make_engine(**limits)) as live:

        def ask(first: int) -> None:
            for number in range(first, len(asked), 5):
                found[number] = collect(live, asked[number], params[number])

        threads = [threading.Thread(target=ask, args=(first,)) for first in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if "cache_bytes" in limits:
            assert live.engine.scheduler.preempted, "the test needs rows that give way"
        assert live.engine.scheduler.idle and live._open == 0
    assert [found[number] for number in range(len(asked))] == expected


def test_a_whole_answer_comes_once(make_engine: Callable[..., Engine]) -> None:
    inbox: SimpleQueue[Any] = SimpleQueue()
    with LiveEngine(make_engine()) as live:
        live.answer([7, 8], SamplingParams(max_tokens=9, n=2), inbox.put, whole=True)
        both = [inbox.get(timeout=20), inbox.get(timeout=20)]
    assert {one.sample for one in both} == {0, 1} and all(one.text == one.completion.text for one in both)
    assert inbox.empty()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it took longer than 20 s"
        time.sleep(0.005)


def test_cancelling_frees_rows_and_leaves_the_others_alone(make_engine: Callable[..., Engine]) -> None:
    short = SamplingParams(temperature=1.0, max_tokens=60, seed=3)
    (alone,) = make_engine().generate([[9, 8, 7]], short)
    with LiveEngine(make_engine(max_rows=2)) as live:
        first, second = live.stream([5, 6], ENDLESS), live.stream([6, 7], ENDLESS)
        next(first), next(second)  # both places are taken
        inbox: SimpleQueue[Any] = SimpleQueue()
        waiting = live.answer([9, 8, 7], LONG, inbox.put)
        waiting.cancel()
        first.close()
        assert collect(live, [9, 8, 7], short) == list(alone.outputs) and inbox.empty()
        assert live.engine.scheduler.generated < 1500, "it waited for the end of a row that nobody wants"
        second.close()
        until(lambda: live._open == 0)
        assert live.engine.scheduler.idle and not live._owners and not live._tickets
        waiting.cancel()  # once more is no harm
    assert live._open == 0


def test_an_exception_ends_open_requests_and_not_the_engine(make_engine: Callable[..., Engine]) -> None:
    expected = make_engine().generate([[9, 8]], SamplingParams(max_tokens=5))[0].outputs[0]
    with LiveEngine(make_engine(max_rows=1)) as live:
        running = live.stream([5, 6], LONG)
        next(running)
        waiting = live.stream([6, 7], LONG)

        def fail() -> list[Any]:
            raise MemoryError("out of space")

        inbox: SimpleQueue[Any] = SimpleQueue()
        live.answer([6, 7], LONG, inbox.put)
        live.engine.scheduler.step = fail
        with pytest.raises(Stopped, match="MemoryError: out of space"):
            list(running)
        assert isinstance(inbox.get(timeout=20), Stopped)
        assert len(list(waiting)) > 1, "it was first asked after the failure"
        assert collect(live, [9, 8], SamplingParams(max_tokens=5)) == [expected]
        assert live._open == 0 and live.failure == "MemoryError: out of space"


def test_who_cannot_be_told_ends_alone(make_engine: Callable[..., Engine]) -> None:
    def refuse(told: Any) -> None:
        raise RuntimeError("the loop is closed")

    with LiveEngine(make_engine()) as live:
        live.answer([5, 6], SamplingParams(max_tokens=500, n=3), refuse)
        collect(live, [9, 8], SamplingParams(max_tokens=20))
        until(lambda: live._open == 0)
        assert live.running


def test_bounds_and_the_end(make_engine: Callable[..., Engine]) -> None:
    inbox: SimpleQueue[Any] = SimpleQueue()
    live = LiveEngine(make_engine(max_rows=1), max_waiting=2)
    with pytest.raises(Refused, match="context"):
        live.answer([5] * 3000, LONG, inbox.put)
    live.answer([5, 6], LONG, inbox.put, whole=True)
    live.answer([5, 6], SamplingParams(max_tokens=1500, n=2), inbox.put, whole=True)
    with pytest.raises(Busy, match="3 rows"):
        live.answer([5, 6], LONG, inbox.put)
    live.close(20)
    told = [inbox.get_nowait() for _ in range(2)]
    assert all(isinstance(one, Stopped) for one in told) and inbox.empty()
    assert not live.running and live.engine.scheduler.idle
    with pytest.raises(Stopped):
        live.answer([5, 6], LONG, inbox.put)
    with pytest.raises(Stopped):
        live.read([5, 6], 1, inbox.put)


def test_prompts_are_scored_between_answers(make_engine: Callable[..., Engine]) -> None:
    asked = [prompt for prompt in prompts(8) if len(prompt) > 1] + [[5] * 700, [7] * 2048]
    scored = make_engine().logprobs([prompt[:1] for prompt in asked], [prompt[1:] for prompt in asked])
    inbox: SimpleQueue[Any] = SimpleQueue()
    with LiveEngine(make_engine(prefill_tokens=100)) as live:
        answer = live.stream([5, 6], LONG)
        next(answer)
        for prompt, expected in zip(asked, scored, strict=True):
            live.read(prompt, 3, inbox.put)
            read = inbox.get(timeout=20)
            assert isinstance(read, Read) and [one.token_id for one in read.logprobs] == prompt[1:]
            assert [one.logprob for one in read.logprobs] == pytest.approx(expected, abs=1e-4)
            for one in read.logprobs:
                assert len(one.top) == 3 and one.top[0][1] >= one.logprob
                assert json.dumps(one.top) and [*one.top] == sorted(one.top, key=lambda pair: -pair[1])
        assert isinstance(next(answer), Increment)
        answer.close()
