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
from models.engine.generation import Generation, Limits
from models.engine.rows import PromptState, Row
from models.tokenizer import Tokenizer

WIDE = Limits(max_rows=64, prefill_tokens=4096, cache_tokens=10**9)
HELLO = [{"role": "user", "content": "hello"}]


class Watched(Generation):
    """Keeps the final hidden state and the logits that each of a row's tokens was sampled from."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hidden: dict[Row, list[Tensor]] = defaultdict(list)
        self.logits: dict[Row, list[Tensor]] = defaultdict(list)
        self.most_rows = self.most_tokens = self.steps = self.prompt_tokens = self.most_prompt_tokens = 0

    def _advance(self, slots: Sequence[Slot], hidden_MD: Tensor) -> list[Row]:
        logits_RV = self.model.unembed(hidden_MD[: max(16, -(-len(slots) // 8) * 8)])
        for place, slot in enumerate(slots):
            self.hidden[self.running[slot]].append(hidden_MD[place].clone())
            self.logits[self.running[slot]].append(logits_RV[place].clone())
        self.most_rows = max(self.most_rows, self.admitted_rows)
        self.most_tokens = max(self.most_tokens, self.admitted_tokens)
        self.steps += 1
        return super()._advance(slots, hidden_MD)

    def _next_chunks(self) -> tuple[list[PromptState], list]:
        prompts, chunks = super()._next_chunks()
        read = sum(chunk.size for chunk in chunks)
        self.prompt_tokens += read
        self.most_prompt_tokens = max(self.most_prompt_tokens, read)
        return prompts, chunks


def rows_of(engine: Engine, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams]) -> list[list[Row]]:
    states = [PromptState(prompt, unstarted=one.n) for prompt, one in zip(prompts, params, strict=True)]
    return [
        [Row(state, one, engine.ending, n) for n in range(one.n)] for state, one in zip(states, params, strict=True)
    ]


def watch(engine: Engine, rows: Sequence[Row], limits: Limits = WIDE) -> Watched:
    generation = Watched(engine.model, rows, limits)
    with torch.inference_mode():
        finished = [row for batch in generation.run() for row in batch]
    assert len(finished) == len(rows) and not generation.running and not generation.cache.slabs
    assert all(row.prompt.cache is None for row in rows), "a prompt's cache outlived its samples"
    return generation


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
    engine = Engine(make_model(family), tokenizer)
    prompts = [*MIXED, *some_prompts([600, 1100])]
    rows = [row for (row,) in rows_of(engine, prompts, [SamplingParams(max_tokens=6, seed=2)] * len(prompts))]
    generation = watch(engine, rows, Limits(8, 600, 10**9))
    for row in rows:
        seen = torch.stack(generation.logits[row])
        with torch.no_grad():
            plain = engine.model(torch.tensor([[*row.prompt.token_ids, *row.token_ids]]))[0]
        expected = plain[len(row.prompt.token_ids) - 1 :][: len(seen)]
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-4)  # measured: under 2e-5


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("family", ["nemotron", "llama"])
def test_a_row_has_the_same_bits_alone_and_in_any_batch(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer, family: str, threads: int
) -> None:
    torch.set_num_threads(threads)
    engine = Engine(make_model(family), tokenizer)
    batches = []
    for limits in (WIDE, Limits(5, 100, 10**9), Limits(64, 4096, 600)):
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
    for limits in ({"max_rows": 1}, {"max_rows": 3, "prefill_tokens": 1}, {"cache_bytes": 1}):
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
    params = SamplingParams(max_tokens=3, n=4)
    (shared,) = rows_of(engine, [MIXED[5]], [params])
    generation = watch(engine, shared, Limits(2, 50, 10**9))
    assert generation.prompt_tokens == len(MIXED[5]) - 1
    apart = [Row(PromptState(MIXED[5], unstarted=1), params, engine.ending, n) for n in range(4)]
    other = watch(engine, apart)
    assert other.prompt_tokens == 4 * generation.prompt_tokens
    assert all(same_bits(generation, a, other, b) for a, b in zip(shared, apart, strict=True))


def test_waiting_rows_are_admitted_as_others_finish(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer)
    params = [SamplingParams(max_tokens=tokens, temperature=0.0) for tokens in (24, 4, 4, 4, 4, 4)]
    rows = [row for (row,) in rows_of(engine, [MIXED[0]] * 6, params)]
    generation = watch(engine, rows, Limits(max_rows=2, prefill_tokens=64, cache_tokens=10**9))
    lengths = [len(generation.logits[row]) for row in rows]
    assert generation.most_rows == 2
    assert lengths[0] == 24, "the long row should not end early, or this shows nothing"
    assert generation.steps == max(24, sum(lengths[1:])), "short rows take turns beside the long one"


def test_limits_bound_what_runs_at_once(make_model: Callable[..., Decoder], tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer)
    rows = [row for (row,) in rows_of(engine, MIXED, SETTINGS)]
    generation = watch(engine, rows, Limits(max_rows=4, prefill_tokens=150, cache_tokens=400))
    assert generation.most_rows <= 4
    assert generation.most_tokens == max(row.reserved for row in rows) == 640, "the longest row runs, but alone"
    assert generation.most_prompt_tokens == 512, "one chunk is read whatever the budget"
    small = rows_of(engine, MIXED[:5], SETTINGS[:5])
    generation = watch(engine, [row for (row,) in small], Limits(max_rows=4, prefill_tokens=70, cache_tokens=200))
    assert generation.most_tokens <= 200 and generation.most_prompt_tokens <= 70


def test_what_cannot_be_answered_is_an_error_of_its_row_only(
    make_model: Callable[..., Decoder], tokenizer: Tokenizer
) -> None:
    engine = Engine(make_model(max_positions=128), tokenizer)
    good, long, edge = some_prompts([5, 128, 127])
    unknown = [7, engine.model.config.vocab_size]
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
    generation = watch(engine, [row])
    (scores,) = engine.logprobs([MIXED[5]], [row.token_ids])
    chosen = [logits.log_softmax(-1).max() for logits in generation.logits[row]]
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
