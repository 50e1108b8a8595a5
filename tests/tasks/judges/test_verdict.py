"""Yes or No from log-probabilities: compared with the model's own full distribution."""

import math
from pathlib import Path

import pytest
import tokenizers
import torch

from infra.errors import InputError
from models.chat import CHATML_TEMPLATE, encode_prompt
from models.checkpoint import load_model, save_model
from models.config import ModelConfig
from models.decoder import init_model
from models.engine import Engine
from models.tokenizer import Tokenizer
from tasks.judges.verdict import verdicts

WORDS = (" Yes", " No")


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = Tokenizer(backend, CHATML_TEMPLATE, bos_id=None, eos_id=0, pad_id=0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
             "head_dim": 8, "rotary_fraction": 0.5, "init_std": 0.3, "max_positions": 128}  # fmt: skip
    model = init_model(ModelConfig("nemotron", tokenizer.vocab_size, eos_ids=(0,), **shape), 1)
    save_model(model, tokenizer, tmp_path / "model")
    return Engine(*load_model(tmp_path / "model"))


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": "Verdict:"}]


def test_log_odds_and_mass_are_the_models_own(engine: Engine) -> None:
    found = verdicts(engine, [asked("good?"), asked("bad?")], WORDS)
    for text, verdict in zip(("good?", "bad?"), found, strict=True):
        prompt = encode_prompt(engine.tokenizer, asked(text))
        logs = []
        for word in WORDS:
            ids = engine.tokenizer.encode(word)
            with torch.no_grad():
                logprobs = engine.scheduler.model(torch.tensor([[*prompt, *ids]]))[0].log_softmax(-1)
            logs.append(sum(logprobs[len(prompt) - 1 + step, token].item() for step, token in enumerate(ids)))
        assert verdict and verdict.log_odds == pytest.approx(logs[0] - logs[1], abs=1e-4)
        assert verdict.mass == pytest.approx(sum(math.exp(log) for log in logs), abs=1e-6)
    assert found[0] != found[1] and found == verdicts(engine, [asked("bad?"), asked("good?")], WORDS)[::-1]


def test_single_token_words_share_one_reading_with_the_same_bits(engine: Engine) -> None:
    prompts = [engine.tokenizer.encode(text) for text in ("one prompt", "another", "one prompt")]
    together = engine.logprobs([*prompts, *prompts], [[5]] * 3 + [[9]] * 3)
    alone = [engine.logprobs([prompt], [[token]])[0] for token in (5, 9) for prompt in prompts]
    assert together == alone and together[0] == together[2] and together[0] != together[3]


def test_what_does_not_fit_has_no_verdict(engine: Engine) -> None:
    found = verdicts(engine, [asked("x" * 200), asked("short")], WORDS)
    assert found[0] is None and found[1] is not None
    assert verdicts(engine, [], WORDS) == []


@pytest.mark.parametrize("words", [("Yes", "No", "Maybe"), ("Yes",), (" <|im_end|>", " No"), (" Yes", " Yes")])
def test_words_that_cannot_be_told_apart_are_refused(engine: Engine, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="expected two words"):
        verdicts(engine, [asked("x")], words)
