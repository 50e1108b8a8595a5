"""Generation and scoring against transformers, on random small models of both families."""

from collections.abc import Sequence

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models as backends
from transformers import LlamaConfig, LlamaForCausalLM, NemotronConfig, NemotronForCausalLM
from transformers.utils import logging

from models.config import ModelConfig
from models.decoder import Decoder
from models.engine import Engine, SamplingParams
from models.tokenizer import Tokenizer

logging.disable_progress_bar()

VOCABULARY = 160
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
         "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 1200, "eos_token_id": None,
         "bos_token_id": None}  # fmt: skip
REFERENCES = {
    "nemotron": lambda: NemotronForCausalLM(NemotronConfig(**SMALL, head_dim=16)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
}
LENGTHS = (1, 2, 5, 17, 63, 64, 65, 130, 600)
"""Prompts of one token, at the edges of the cache's steps, and one that is read in two chunks."""
GREEDY = SamplingParams(temperature=0.0, max_tokens=12)


@pytest.fixture(params=REFERENCES)
def reference(request):
    torch.manual_seed(7)
    model = REFERENCES[request.param]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def our_engine(reference, eos: int | None = None, **limits: int) -> Engine:
    model = Decoder(ModelConfig.from_hf(reference.config.to_dict() | {"eos_token_id": eos}))
    model.load_state_dict(reference.state_dict())
    tokenizer = Tokenizer(Backend(backends.WordLevel({f"w{n}": n for n in range(VOCABULARY)}, unk_token="w0")))
    return Engine(model.eval(), tokenizer, **limits)


def some_prompts(lengths: Sequence[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(0, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


@torch.no_grad()
def their_greedy(reference, prompt: Sequence[int], new_tokens: int, eos: int | None = None) -> tuple[int, ...]:
    found = reference.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
        max_new_tokens=new_tokens, eos_token_id=eos, pad_token_id=0,
    )  # fmt: skip
    answer = found[0, len(prompt) :].tolist()
    return tuple(answer[:-1] if eos is not None and answer[-1] == eos else answer)


def test_greedy_tokens_are_those_of_transformers(reference):
    prompts = some_prompts(LENGTHS)
    results = our_engine(reference, max_rows=4, prefill_tokens=64).generate(prompts, GREEDY)
    for prompt, result in zip(prompts, results, strict=True):
        assert result.token_ids == their_greedy(reference, prompt, GREEDY.max_tokens)
        assert (result.prompt_tokens, result.finish_reason) == (len(prompt), "length")


def test_a_row_grows_through_several_slabs_as_in_transformers(reference):
    """600 tokens of one row pass capacities of 64, 128, … 512 and 640."""
    (prompt,) = some_prompts([3])
    (result,) = our_engine(reference).generate([prompt], SamplingParams(temperature=0.0, max_tokens=600))
    assert result.token_ids == their_greedy(reference, prompt, 600)
    assert len(set(result.token_ids)) > 20, "an answer that only repeats itself shows little"


def test_the_stop_token_ends_rows_where_transformers_ends_them(reference):
    prompts = some_prompts([4, 9, 30, 70])
    free = [their_greedy(reference, prompt, 24) for prompt in prompts]
    eos = free[0][7]
    results = our_engine(reference, eos, max_rows=2).generate(prompts, SamplingParams(temperature=0.0, max_tokens=24))
    for prompt, answer, result in zip(prompts, free, results, strict=True):
        assert result.token_ids == their_greedy(reference, prompt, 24, eos)
        assert result.finish_reason == ("stop" if eos in answer else "length")
    assert {result.finish_reason for result in results} == {"stop", "length"}


def test_log_probabilities_are_those_of_transformers(reference):
    prompts, continuations = some_prompts(LENGTHS), some_prompts([1, 3, 300, 8, 0, 40, 2, 7, 11])
    ours = our_engine(reference, prefill_tokens=200).logprobs(prompts, continuations)
    for prompt, continuation, found in zip(prompts, continuations, ours, strict=True):
        with torch.no_grad():
            logits_TV = reference(torch.tensor([[*prompt, *continuation]])).logits[0]
        scores_TV = logits_TV.log_softmax(-1)[len(prompt) - 1 : len(prompt) + len(continuation) - 1]
        expected = scores_TV.gather(1, torch.tensor(continuation, dtype=torch.long)[:, None])[:, 0]
        assert len(found) == len(continuation)
        torch.testing.assert_close(torch.tensor(found), expected, rtol=0, atol=1e-4)  # measured: under 1e-5
