"""The reward model: where it reads, that scores depend on their conversation alone, and what a folder remembers."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from models.chat import CHATML_TEMPLATE, NEMOTRON_TEMPLATE, encode_dialogue
from models.config import ModelConfig
from models.decoder import init_model
from models.reward import (
    ATTRIBUTES,
    REWARD_WEIGHTS,
    RewardConfig,
    RewardModel,
    RewardScorer,
    encode_conversation,
    load_reward_model,
    save_reward_model,
    scalar_reward,
)
from tasks import rows

CONFIG = ModelConfig("nemotron", 266, 32, 64, 2, 4, 2, 16, rotary_fraction=0.5, init_std=0.2)


def asked(answer: str, question: str = "hello") -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


CONVERSATIONS = [asked("well"), asked("a much longer answer, over\ntwo lines"), asked("no", "why?" * 30), asked("")]


@pytest.fixture
def model() -> RewardModel:
    model = RewardModel(init_model(CONFIG, seed=0)).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(model.head.weight)
    torch.nn.init.normal_(model.head.bias)
    return model


@pytest.mark.parametrize(
    ("template", "end"), [(CHATML_TEMPLATE, ["l", "<|im_end|>"]), (NEMOTRON_TEMPLATE, ["Ċ", "<extra_id_1>"])]
)
def test_it_is_read_at_the_token_that_ends_the_turn(make_tokenizer, template, end):
    tokenizer = make_tokenizer(template)
    for read_at, place in (("end_of_turn", 1), ("before_end", 0)):
        token_ids, index, _ = encode_conversation(tokenizer, asked("cool"), read_at)
        assert tokenizer.token(token_ids[-1]) == end[1]
        assert tokenizer.token(token_ids[index]) == end[place]
    assert token_ids == encode_dialogue(tokenizer, asked("cool"))[0][: len(token_ids)]


def test_scores_are_the_head_on_that_hidden_state(model: RewardModel, make_tokenizer):
    tokenizer = make_tokenizer()
    token_ids, index, _ = encode_conversation(tokenizer, CONVERSATIONS[1])
    hidden = model.decoder.hidden(torch.tensor([token_ids]))[0, index]
    expected = model.head.weight @ hidden + model.head.bias
    torch.testing.assert_close(torch.tensor(RewardScorer(model, tokenizer).score(CONVERSATIONS[1:2])[0]), expected)
    found = RewardScorer(model, tokenizer).features(CONVERSATIONS[1:2])[0]
    torch.testing.assert_close(found, hidden, rtol=0, atol=1e-5)


def test_a_score_depends_on_its_own_conversation_alone(model: RewardModel, make_tokenizer):
    tokenizer = make_tokenizer()
    together = RewardScorer(model, tokenizer).score(CONVERSATIONS)
    assert together == [RewardScorer(model, tokenizer).score([conversation])[0] for conversation in CONVERSATIONS]
    assert together == RewardScorer(model, tokenizer).score(CONVERSATIONS[::-1])[::-1]
    assert len({tuple(attributes) for attributes in together}) == len(CONVERSATIONS)
    assert RewardScorer(model, tokenizer).score([]) == []


def test_every_word_of_the_answer_counts(model: RewardModel, make_tokenizer):
    first, second = RewardScorer(model, make_tokenizer()).score([asked("a good answer"), asked("b good answer")])
    assert first != second


def test_the_head_learns_what_separates_answers(make_tokenizer):
    """Ridge regression on frozen features, as the smallest preset trains it: held-out answers are told apart."""
    tokenizer, model = make_tokenizer(), RewardModel(init_model(CONFIG, seed=0))
    answers = [(f"{word} number {n}", float(word == "yes")) for n in range(20) for word in ("yes", "no")]
    features = RewardScorer(model, tokenizer).features([asked(answer) for answer, _ in answers])
    features = torch.cat([features, torch.ones(len(answers), 1)], dim=1)
    labels = torch.tensor([[label * 4] * 5 for _, label in answers])
    train = slice(0, 30)
    gram = features[train].T @ features[train] + 1e-2 * torch.eye(features.shape[1])
    solution = torch.linalg.solve(gram, features[train].T @ labels[train])
    with torch.no_grad():
        model.head.weight.copy_(solution[:-1].T)
        model.head.bias.copy_(solution[-1])
    scored = torch.tensor(RewardScorer(model, tokenizer).score([asked(answer) for answer, _ in answers[30:]]))
    assert ((scored > 2) == (labels[30:] > 2)).float().mean() > 0.9


def test_a_folder_remembers_head_weights_and_place(model: RewardModel, make_tokenizer, tmp_path: Path):
    tokenizer = make_tokenizer()
    model.config = RewardConfig(weights=(1.0, 0.5, 0.0, 0.0, -1.0), read_at="before_end")
    save_reward_model(model, tokenizer, tmp_path)
    again, its_tokenizer = load_reward_model(tmp_path)
    assert again.config == model.config
    assert RewardScorer(again, its_tokenizer).score(CONVERSATIONS) == RewardScorer(model, tokenizer).score(
        CONVERSATIONS
    )
    save_reward_model(model, tokenizer, tmp_path / "again")
    for name in ("reward_head.safetensors", "reward.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)  # the trunk alone is an ordinary model
    assert torch.equal(theirs.lm_head.weight, model.decoder.unembedding_VD)


def test_a_changed_template_is_refused(model: RewardModel, make_tokenizer, tmp_path: Path):
    save_reward_model(model, make_tokenizer(), tmp_path)
    make_tokenizer(NEMOTRON_TEMPLATE).save(tmp_path)
    with pytest.raises(ValueError, match="changed since the head was trained"):
        load_reward_model(tmp_path)


def test_other_folders_and_settings_are_refused(model: RewardModel, make_tokenizer, tmp_path: Path):
    save_reward_model(model, make_tokenizer(), tmp_path)
    settings = json.loads((tmp_path / "reward.json").read_text())
    (tmp_path / "reward.json").write_text(json.dumps(settings | {"read_at": "middle"}))
    with pytest.raises(ValueError, match="read_at is 'middle'"):
        load_reward_model(tmp_path)
    (tmp_path / "reward.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks \['reward.json'\]"):
        load_reward_model(tmp_path)
    with pytest.raises(ValueError, match="2 weights for 5 attributes"):
        RewardConfig(weights=(1.0, 2.0))


def test_a_conversation_without_an_answer_cannot_be_scored(model: RewardModel, make_tokenizer):
    with pytest.raises(ValueError, match=r"\['user'\] cannot be scored"):
        RewardScorer(model, make_tokenizer()).score([asked("well")[:1]])


def test_the_scalar_is_the_papers_weighted_sum():
    assert REWARD_WEIGHTS == (0.3, 0.74, 0.46, 0.47, -0.33)
    assert scalar_reward([4.0, 3.0, 4.0, 2.0, 1.0]) == pytest.approx(1.2 + 2.22 + 1.84 + 0.94 - 0.33)
    with pytest.raises(ValueError, match="shorter"):
        scalar_reward([1.0])
    assert ATTRIBUTES == rows.ATTRIBUTES
