"""The engine's promises: a row depends on itself alone, errors stay with their row, limits bound what runs at once."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.chat import encode_prompt
from models.checkpoint import load_model
from models.decoder import Decoder
from models.engine import Engine, SamplingParams
from models.engine.cache import Slot
from models.engine.rows import Row
from models.engine.scheduler import Limits, Scheduler, Work
from models.tokenizer import Tokenizer

WIDE = Limits(max_rows=64, prefill_tokens=4096, cache_tokens=10**9)
HELLO = [{"role": "user", "content": "hello"}]


class Watched(Scheduler):
    """Keeps the final hidden state and the logits that each of a row's tokens was sampled from."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hidden: dict[Row, list[Tensor]] = defaultdict(list)
        self.logits: dict[Row, list[Tensor]] = defaultdict(list)
        self.most_rows = self.most_tokens = self.steps = self.most_prompt_tokens = 0

    def _advance(self, slots: Sequence[Slot], hidden_MD: Tensor) -> list[Work]:
        logits_RV = self.unembed(hidden_MD[: len(slots)]) if slots else hidden_MD
        for place, slot in enumerate(slots):
            row = self.running[slot]
            if not row.token_ids:  # also one that had to give way, and starts again
                self.hidden[row].clear()
                self.logits[row].clear()
            self.hidden[row].append(hidden_MD[place].clone())
            self.logits[row].append(logits_RV[place].clone())
        self.most_rows = max(self.most_rows, len(self.admitted))
        self.most_tokens = max(self.most_tokens, self.used_tokens)
        self.steps += 1
        return super()._advance(slots, hidden_MD)

    def step(self) -> list[Work]:
        before = self.read
        finished = super().step()
        self.most_prompt_tokens = max(self.most_prompt_tokens, self.read - before)
        return finished


def rows_of(engine: Engine, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams]) -> list[list[Row]]:
    return [engine.rows(prompt, one) for prompt, one in zip(prompts, params, strict=True)]


def watch(engine: Engine, rows: Sequence[Row], limits: Limits = WIDE) -> Watched:
    scheduler = Watched(engine.scheduler.model, limits)
    finished: list[Work] = []
    scheduler.submit(rows)
    with torch.inference_mode():
        while not scheduler.idle:
            finished += scheduler.step()
    assert len(finished) == len(rows) and not scheduler.running and not scheduler.rows.slabs
    assert not any(prefix.in_use for prefix in scheduler.prefixes), "a prompt is held by nobody"
    return scheduler


def some_prompts(lengths: Sequence[int], vocabulary: int = 200) -> list[list[int]]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randint(5, vocabulary, (length,), generator=generator).tolist() for length in lengths]


MIXED = some_prompts([1, 3, 40, 64, 65, 200, 520, 9, 12, 30, 31, 100])
SETTINGS = [
    SamplingParams(temperature=(0.0, 1.0, 0.7)[n % 3], top_k=(0, 5)[n % 2], max_tokens=4 + 3 * (n % 4), seed=n)
    for n in range(len(MIXED))
]


def same_bits(alone: Watched, mine: Row, together: Watched, theirs: Row) -> bool:
    pairs = zip([*alone.hidden[mine], *alone.logits[mine]], [*together.hidden[theirs], *together.logits[theirs]],
                strict=True)  # fmt: skip
    return mine.completion == theirs.completion and all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("family", ["nemotron", "llama"])
def test_logits_are_those_of_a_plain_forward_pass(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer, family: str
) -> None:
    """Prompts of up to three chunks, and an answer that moves between slabs."""
    model = make_model(family)
    engine = Engine(model, tokenizer)
    prompts = [*MIXED, *some_prompts([600, 1100])]
    rows = [row for (row,) in rows_of(engine, prompts, [SamplingParams(max_tokens=6, seed=2)] * len(prompts))]
    scheduler = watch(engine, rows, Limits(8, 600, 10**9))
    for row in rows:
        seen = torch.stack(scheduler.logits[row])
        with torch.no_grad():
            plain = model(torch.tensor([[*row.prompt_ids, *row.token_ids]]))[0]
        expected = plain[len(row.prompt_ids) - 1 :][: len(seen)]
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-4)  # measured: under 2e-5


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("family", ["nemotron", "llama"])
def test_a_row_has_the_same_bits_alone_and_in_any_batch(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer, family: str, threads: int
) -> None:
    torch.set_num_threads(threads)
    engine = Engine(make_model(family), tokenizer)
    batches = []
    for limits in (WIDE, Limits(5, 100, 10**9), Limits(64, 4096, 1300), Limits(64, 33, 10**9, share_prefixes=False)):
        rows = [row for (row,) in rows_of(engine, MIXED, SETTINGS)]
        batches.append((rows, watch(engine, rows, limits)))
    backwards = [row for (row,) in rows_of(engine, MIXED, SETTINGS)]
    batches.append((backwards, watch(engine, backwards[::-1])))
    for number, (prompt, params) in enumerate(zip(MIXED, SETTINGS, strict=True)):
        ((row,),) = rows_of(engine, [prompt], [params])
        alone = watch(engine, [row])
        assert all(same_bits(alone, row, together, rows[number]) for rows, together in batches), len(prompt)


def test_a_real_models_rows_have_the_same_bits_alone_and_together(smollm_folder: Path) -> None:
    engine = Engine(*load_model(smollm_folder))
    asked = ["Name a river.", "Why is the sky blue? Explain in one short sentence.", "Count to four."]
    prompts = [encode_prompt(engine.tokenizer, [{"role": "user", "content": text}]) for text in asked]
    params = [SamplingParams(max_tokens=4, seed=n) for n in range(3)]
    rows = [row for (row,) in rows_of(engine, prompts, params)]
    together = watch(engine, rows)
    ((row,),) = rows_of(engine, prompts[1:2], params[1:2])
    assert same_bits(watch(engine, [row]), row, together, rows[1])


def test_results_are_equal_whatever_the_limits_and_the_company(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer
) -> None:
    model = make_model()
    whole = Engine(model, tokenizer).generate(MIXED, SETTINGS)
    for limits in ({"max_rows": 1}, {"max_rows": 3, "prefill_tokens": 1}, {"cache_bytes": 650_000}):
        assert Engine(model, tokenizer, **limits).generate(MIXED, SETTINGS) == whole
    assert Engine(model, tokenizer).generate(MIXED[::-1], SETTINGS[::-1]) == whole[::-1]
    assert len({result.token_ids for result in whole}) == len(whole)


def test_samples_of_a_prompt_differ_and_do_not_depend_on_how_many_there_are(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer
) -> None:
    engine = Engine(make_model(), tokenizer, max_rows=2)
    (five,) = engine.generate([MIXED[3]], SamplingParams(max_tokens=8, seed=4, n=5))
    (two,) = engine.generate([MIXED[3]], SamplingParams(max_tokens=8, seed=4, n=2))
    (one,) = engine.generate([MIXED[3]], SamplingParams(max_tokens=8, seed=4))
    (other,) = engine.generate([MIXED[3]], SamplingParams(max_tokens=8, seed=5))
    assert len({output.token_ids for output in five.outputs}) == 5
    assert five.outputs[:2] == two.outputs and five.outputs[:1] == one.outputs != other.outputs
    assert (five.text, five.token_ids, five.finish_reason) == (
        five.outputs[0].text, five.outputs[0].token_ids, five.outputs[0].finish_reason
    )  # fmt: skip


def test_sampled_first_tokens_follow_the_models_distribution(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer
) -> None:
    model = make_model(init_std=0.1)
    params = SamplingParams(temperature=1.3, top_k=6, max_tokens=1, n=3000, seed=1)
    (result,) = Engine(model, tokenizer, max_rows=512).generate([MIXED[2]], params)
    with torch.no_grad():
        best = (model(torch.tensor([MIXED[2]]))[0, -1].double() / 1.3).topk(6)
    counts = torch.zeros(6, dtype=torch.float64)
    place = {token: number for number, token in enumerate(best.indices.tolist())}
    for output in result.outputs:
        assert output.token_ids[0] in place or output.finish_reason == "stop"
        counts[place[output.token_ids[0]]] += 1
    means = 3000 * best.values.softmax(-1)
    assert means.min() > 20 and ((counts - means).square() / means).sum() < 5 + 5 * 10**0.5


def test_a_prompts_samples_read_it_once(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer)
    (shared,) = rows_of(engine, [MIXED[5]], [SamplingParams(max_tokens=3, n=4)])
    together = watch(engine, shared, Limits(2, 50, 10**9))
    assert together.read == len(MIXED[5]) - 1
    (apart,) = rows_of(engine, [MIXED[5]], [SamplingParams(max_tokens=3, n=4)])
    each = watch(engine, apart, Limits(2, 50, 10**9, share_prefixes=False))
    assert each.read == 4 * together.read
    assert all(same_bits(together, a, each, b) for a, b in zip(shared, apart, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("family", ["nemotron", "llama"])
def test_what_prompts_have_in_common_is_read_once_and_changes_no_bit(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer, family: str, threads: int
) -> None:
    """Cuts before, at and behind the edges of tiles; a prompt that begins another; three levels deep."""
    torch.set_num_threads(threads)
    engine = Engine(make_model(family), tokenizer)
    root, branch, *ends = some_prompts([45, 60, 1, 7, 30, 31, 32, 33, 90])
    prompts = [[*root, *end] for end in ends] + [[*root, *branch, *end] for end in ends] + [root, [*root, *branch]]
    prompts += [prompt[:cut] for prompt in prompts[-2:] for cut in (8, 9, 31, 32, 33, 44)]
    params = [SamplingParams(max_tokens=3, seed=n) for n in range(len(prompts))]
    apart = [row for (row,) in rows_of(engine, prompts, params)]
    each = watch(engine, apart, Limits(64, 4096, 10**9, share_prefixes=False))
    assert each.read == sum(len(prompt) - 1 for prompt in prompts)
    for limits in (WIDE, Limits(3, 20, 10**9), Limits(64, 4096, 700)):
        rows = [row for (row,) in rows_of(engine, prompts, params)]
        together = watch(engine, rows, limits)
        assert all(same_bits(each, a, together, b) for a, b in zip(apart, rows, strict=True)), limits
        if limits.cache_tokens > 700:
            once = 45 + 60 + sum(len(end) - 1 for end in ends) * 2
            assert together.read <= once + 12 * 2 < each.read / 2, "short ones are not worth sharing"


def test_prompts_are_kept_between_calls(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer)
    params = SamplingParams(max_tokens=3, seed=1)
    first = engine.generate([MIXED[5]], params)
    read = engine.scheduler.read
    assert engine.generate([MIXED[5]], params) == first and engine.scheduler.read == read == len(MIXED[5]) - 1
    longer = [*MIXED[5], *MIXED[3]]
    assert engine.generate([longer], params) == Engine(make_model(), tokenizer).generate([longer], params)
    assert engine.scheduler.read == read + len(MIXED[3])


def test_rows_that_give_way_come_to_the_same_end(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    """Rows are let in for what they need at first; when all grow, the youngest start again later."""
    engine = Engine(make_model(), tokenizer)
    prompts = some_prompts([40] * 8)
    params = [SamplingParams(max_tokens=150, seed=n, logprobs=1) for n in range(8)]
    whole = [row for (row,) in rows_of(engine, prompts, params)]
    plenty = watch(engine, whole)
    assert not plenty.preempted and sum(len(row.token_ids) > 30 for row in whole) > 4, "all would fit"
    rows = [row for (row,) in rows_of(engine, prompts, params)]
    scarce = watch(engine, rows, Limits(8, 4096, 700))
    assert scarce.preempted > 1 and scarce.most_tokens <= 700
    assert all(same_bits(plenty, a, scarce, b) for a, b in zip(whole, rows, strict=True))
    assert [row.completion.logprobs for row in whole] == [row.completion.logprobs for row in rows]


def test_waiting_rows_are_admitted_as_others_finish(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer)
    params = [SamplingParams(max_tokens=tokens, temperature=0.0) for tokens in (24, 4, 4, 4, 4, 4)]
    rows = [row for (row,) in rows_of(engine, [MIXED[0]] * 6, params)]
    scheduler = watch(engine, rows, Limits(max_rows=2, prefill_tokens=64, cache_tokens=10**9))
    lengths = [len(scheduler.logits[row]) for row in rows]
    assert scheduler.most_rows == 2
    assert lengths[0] == 24, "the long row should not end early, or this shows nothing"
    assert scheduler.steps == max(24, sum(lengths[1:])), "short rows take turns beside the long one"


def test_limits_bound_what_runs_at_once(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer)
    rows = [row for (row,) in rows_of(engine, MIXED, SETTINGS)]
    scheduler = watch(engine, rows, Limits(max_rows=4, prefill_tokens=70, cache_tokens=1500))
    assert scheduler.most_rows == 4 and scheduler.most_prompt_tokens == 70
    assert 1000 < scheduler.most_tokens <= 1500
    scheduler = watch(engine, [row for (row,) in rows_of(engine, MIXED, SETTINGS)], Limits(4, 70, 100))
    assert scheduler.most_rows == 1, "one row runs whatever the cache, but alone"
    assert scheduler.most_tokens == 640 + 544, "the longest, and its prompt"


def test_what_cannot_be_answered_is_an_error_of_its_row_only(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer
) -> None:
    engine = Engine(make_model(max_positions=128), tokenizer)
    good, long, edge = some_prompts([5, 128, 127])
    unknown = [7, engine.config.vocab_size]
    params = SamplingParams(temperature=0.0, max_tokens=6, n=2)
    results = engine.generate([good, long, [], unknown, edge], SamplingParams(max_tokens=6, n=2))
    errors = [result.error for result in results]
    assert errors[0] is errors[4] is None
    assert "128 tokens do not fit the model's context of 128" in (errors[1] or "")
    assert "empty" in (errors[2] or "") and f"token id {unknown[1]}" in (errors[3] or "")
    for result in results[1:4]:
        assert [(one.text, one.token_ids, one.finish_reason) for one in result.outputs] == [("", (), "error")] * 2
    assert results[1].prompt_tokens == 128
    assert [len(one.token_ids) for one in results[4].outputs] == [1, 1], "one position is left"
    assert results[4].finish_reason == "length"
    alone = engine.generate([good], SamplingParams(max_tokens=6, n=2))
    assert alone == results[:1]
    narrow = Engine(make_model(max_positions=128), tokenizer, cache_bytes=2 * 2 * 2 * 16 * 4 * 100)
    fitting, wide = narrow.generate([[5], good], [SamplingParams(max_tokens=6), SamplingParams(max_tokens=90)])
    assert fitting.error is None and "5 tokens of prompt and 90 of answer need 160 tokens of cache" in str(wide.error)
    assert engine.generate([long, []], params)[1].error and engine.generate([], params) == []


def test_a_conversation_is_its_tokens(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer)
    params = SamplingParams(temperature=0.0, max_tokens=10)
    begun = [*HELLO, {"role": "assistant", "content": "Well, "}]
    as_messages = engine.generate([HELLO, begun], params)
    as_tokens = engine.generate([encode_prompt(tokenizer, HELLO), encode_prompt(tokenizer, begun)], params)
    assert as_messages == as_tokens and as_messages[0] != as_messages[1]
    assert as_messages[0].text == tokenizer.decode(as_messages[0].token_ids)


def test_every_kind_of_stop_token_ends_a_row(make_model: Callable[..., Decoder], make_tokenizer: Callable) -> None:
    """The model's own, the tokenizer's end of text, and the template's end of turn."""
    model = make_model(eos_ids=(77,))
    engine = Engine(model, make_tokenizer(eos="<|endoftext|>"))
    assert engine.ending.stop_ids == {77, 0, 2}


def test_progress_counts_rows_and_tokens(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(max_positions=300), tokenizer, max_rows=3)
    told: list[tuple[int, int, int]] = []
    prompts = [MIXED[0], MIXED[1], [5] * 400]
    results = engine.generate(prompts, SamplingParams(max_tokens=5, n=2), lambda *values: told.append(values))
    done, totals, tokens = zip(*told, strict=True)
    assert list(done) == sorted(done) and list(tokens) == sorted(tokens)
    assert done[0] >= 2 and done[-1] == 6 and set(totals) == {6}, "rows with errors count as done from the start"
    sampled = [len(one.token_ids) + (one.finish_reason == "stop") for r in results[:2] for one in r.outputs]
    assert tokens[-1] == sum(sampled)
    told.clear()
    engine.generate([[]], None, lambda *values: told.append(values))
    assert told == [(1, 1, 0)]


def test_log_probabilities_of_an_answer_are_the_models_own(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer
) -> None:
    model = make_model()
    engine = Engine(model, tokenizer)
    params = SamplingParams(temperature=0.6, top_k=4, repetition_penalty=1.3, max_tokens=12, seed=3, logprobs=3)
    (result,) = engine.generate([MIXED[2]], params)
    answer = result.outputs[0]
    assert answer.logprobs is not None and [one.token_id for one in answer.logprobs] == list(answer.token_ids)
    with torch.no_grad():
        plain = model(torch.tensor([[*MIXED[2], *answer.token_ids]]))[0, len(MIXED[2]) - 1 : -1].log_softmax(-1)
    for one, scores_V in zip(answer.logprobs, plain, strict=True):
        best = scores_V.topk(3)
        assert [token for token, _ in one.top] == best.indices.tolist()
        expected = torch.cat([best.values, scores_V[one.token_id][None]])
        found = torch.tensor([*(score for _, score in one.top), one.logprob])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    (none,) = engine.generate([MIXED[2]], SamplingParams(max_tokens=2))
    assert none.outputs[0].logprobs is None


def test_a_rows_own_stop_tokens_end_it(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer)
    (free,) = engine.generate([MIXED[2]], SamplingParams(temperature=0, max_tokens=12))
    token = free.token_ids[6]
    (cut,) = engine.generate([MIXED[2]], SamplingParams(temperature=0, max_tokens=12, stop_token_ids=[token]))
    assert cut.token_ids == free.token_ids[: free.token_ids.index(token)] and cut.finish_reason == "stop"


def test_embeddings_are_the_final_hidden_states(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    model = make_model()
    engine = Engine(model, tokenizer, prefill_tokens=50)
    texts = [*MIXED, MIXED[5], MIXED[5][:100], [5]]
    found_ND = engine.embed(texts)
    for text, found_D in zip(texts, found_ND, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(found_D, model.hidden(torch.tensor([text]))[0, -1], rtol=0, atol=1e-4)
    assert torch.equal(Engine(model, tokenizer).embed(texts[::-1]), found_ND.flip(0))
    assert engine.embed([]).shape == (0, 48)
    with pytest.raises(ValueError, match="text 1 cannot be read: the prompt is empty"):
        engine.embed([[5], []])


def test_an_engine_goes_on_after_a_call_that_failed(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer, max_rows=2)
    expected = Engine(make_model(), tokenizer).generate(MIXED, SETTINGS)

    def interrupt(done: int, total: int, tokens: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(MIXED, SETTINGS, interrupt)
    assert engine.scheduler.idle and not engine.scheduler.rows.slabs
    assert engine.generate(MIXED, SETTINGS) == expected


def test_wrong_calls_say_what_was_expected(make_model: Callable[..., Decoder], make_tokenizer: Callable) -> None:
    model = make_model()
    engine = Engine(model, make_tokenizer())
    with pytest.raises(ValueError, match="2 sampling params for 1 prompts"):
        engine.generate([HELLO], [SamplingParams()] * 2)
    with pytest.raises(ValueError, match="max_rows is 0"):
        Engine(model, make_tokenizer(), max_rows=0)
    refusing = make_tokenizer(template="{{ raise_exception('no system messages') }}", eos="<|endoftext|>")
    with pytest.raises(ValueError, match="no system messages"):
        Engine(model, refusing).generate([HELLO])


PAIRS = list(
    zip([*MIXED[:8], *some_prompts([9, 9, 9])], some_prompts([7, 1, 300, 0, 9, 2, 33, 64, 7, 7, 7]), strict=True)
)
"""Neighbours of one length among them, which are attended to in one call."""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_pairs_scores_have_the_same_bits_alone_and_in_any_pack(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer, threads: int
) -> None:
    torch.set_num_threads(threads)
    model = make_model()
    prompts, continuations = (list(part) for part in zip(*PAIRS, strict=True))
    whole = Engine(model, tokenizer).logprobs(prompts, continuations)
    assert [len(scores) for scores in whole] == [len(continuation) for continuation in continuations]
    assert Engine(model, tokenizer, prefill_tokens=1).logprobs(prompts, continuations) == whole
    assert Engine(model, tokenizer).logprobs(prompts[::-1], continuations[::-1]) == whole[::-1]
    assert Engine(model, tokenizer).logprobs([], []) == []


def test_scores_are_those_of_the_tokens_that_greedy_chose(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer
) -> None:
    engine = Engine(make_model(), tokenizer)
    ((row,),) = rows_of(engine, [MIXED[5]], [SamplingParams(temperature=0.0, max_tokens=20)])
    scheduler = watch(engine, [row])
    (scores,) = engine.logprobs([MIXED[5]], [row.token_ids])
    chosen = [logits.log_softmax(-1).max() for logits in scheduler.logits[row]]
    torch.testing.assert_close(torch.tensor(scores), torch.stack(chosen)[: len(scores)], rtol=0, atol=1e-4)


def test_a_pair_fills_the_context_and_not_more(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(max_positions=64), tokenizer)
    prompt, continuation = some_prompts([60, 5])
    assert len(engine.logprobs([prompt], [continuation[:4]])[0]) == 4
    for pair in ((prompt, continuation), ([], [5]), ([5], [9999])):
        with pytest.raises(ValueError, match="pair 1 cannot be scored"):
            engine.logprobs([prompt, pair[0]], [[5], pair[1]])
    with pytest.raises(ValueError, match="1 continuations for 2 prompts"):
        engine.logprobs([prompt, prompt], [[5]])
