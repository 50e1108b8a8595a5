"""Yes or No from log-probabilities: compared with the model's own full distribution."""

from pathlib import Path

import pytest
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
def engine(byte_tokenizer: Tokenizer, tmp_path: Path) -> Engine:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
             "head_dim": 8, "rotary_fraction": 0.5, "init_std": 0.3, "max_positions": 128}  # fmt: skip
    model = init_model(ModelConfig("nemotron", byte_tokenizer.vocab_size, eos_ids=(0,), **shape), 1)
    save_model(model, byte_tokenizer, tmp_path / "model")
    assert byte_tokenizer.chat_template == CHATML_TEMPLATE
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
                logprobs = engine.model(torch.tensor([[*prompt, *ids]]))[0].log_softmax(-1)
            logs.append(sum(logprobs[len(prompt) - 1 + step, token].item() for step, token in enumerate(ids)))
        assert verdict and verdict.log_odds == pytest.approx(logs[0] - logs[1], abs=1e-4)
        assert verdict.mass == pytest.approx(sum(map(torch.tensor(logs).exp().tolist().__getitem__, (0, 1))), abs=1e-6)
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


@pytest.mark.parametrize("words", [("Yes", "No", "Maybe"), ("Yes",), (" <|im_end|>", " No"), (" Yes", " yes ")])
def test_words_that_cannot_be_told_apart_are_refused(engine: Engine, words: tuple[str, ...]) -> None:
    if words == (" Yes", " yes "):
        assert verdicts(engine, [asked("x")], words)[0]
        return
    with pytest.raises(InputError, match="expected two words"):
        verdicts(engine, [asked("x")], words)
