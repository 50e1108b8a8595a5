"""Losses against independent references: the paper's own test vectors, float64 autograd, TRL and PyTorch."""

import pytest
import tokenizers
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

from models.config import ModelConfig
from models.decoder import Decoder
from models.losses import dpo_loss, rpo_loss
from models.objectives import Preference, PreferenceSettings, pair_logprobs
from models.packing import Document, Pair

# (a, b), backward KL, forward KL, d backward / d a, DPO's -logsigmoid(a): the paper's definition, six digits.
VECTORS = [
    ((0.0, 1.0), 0.110944, 0.120115, -0.231059, 0.693147),
    ((1.0, 0.0), 0.120115, 0.110944, 0.231059, 0.313262),
    ((2.0, 1.0), 0.082608, 0.067131, 0.149738, 0.126928),
    ((0.3, 2.5), 0.308578, 0.460761, -0.349699, 0.554355),
    ((0.0, 20.0), 0.693147, 9.306853, -0.500000, 0.693147),
    ((-1.0, 0.5), 0.272874, 0.257403, -0.353518, 1.313262),
]
BETA, ETA = 0.4, 2.0


def tensors(a: float, b: float, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Log-probabilities and rewards whose scaled gaps are a and b."""
    values = (-30.0 + a / BETA, -41.0, -30.0, -41.0, 1.0 + b / ETA, 1.0)
    return tuple(torch.tensor([value], dtype=dtype) for value in values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("gaps", "backward", "forward", "slope", "dpo"), VECTORS)
def test_paper_vectors(gaps, backward, forward, slope, dpo, dtype):
    chosen, *others = tensors(*gaps, dtype)
    chosen.requires_grad_()
    tolerance = 2e-6 if dtype == torch.float64 else 2e-5
    backward_kl, _ = rpo_loss(chosen, *others, beta=BETA, eta=ETA)
    assert backward_kl.item() == pytest.approx(backward, abs=tolerance)
    assert torch.autograd.grad(backward_kl.sum(), chosen)[0].item() == pytest.approx(BETA * slope, abs=tolerance)
    forward_kl, _ = rpo_loss(chosen, *others, beta=BETA, eta=ETA, distance="forward_kl")
    assert forward_kl.item() == pytest.approx(forward, abs=tolerance)
    squared, _ = rpo_loss(chosen, *others, beta=BETA, eta=ETA, distance="squared")
    assert squared.item() == pytest.approx((gaps[0] - gaps[1]) ** 2, rel=1e-4, abs=tolerance)
    assert dpo_loss(chosen, *others[:3], beta=BETA)[0].item() == pytest.approx(dpo, abs=tolerance)


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


REFERENCES = {
    "backward_kl": lambda a, b: kl(1 / (1 + (-b).exp()), 1 / (1 + (-a).exp())),
    "forward_kl": lambda a, b: kl(1 / (1 + (-a).exp()), 1 / (1 + (-b).exp())),
    "squared": lambda a, b: (a - b) ** 2,
}


@pytest.mark.parametrize("distance", REFERENCES)
def test_rpo_equals_the_definition_written_out_in_float64(distance):
    generator = torch.Generator().manual_seed(5)
    inputs = [torch.randn(40, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(6)]
    chosen, rejected, reference_chosen, reference_rejected, chosen_reward, rejected_reward = inputs
    a = BETA * ((chosen - reference_chosen) - (rejected - reference_rejected))
    expected = REFERENCES[distance](a, ETA * (chosen_reward - rejected_reward))
    found, _ = rpo_loss(*inputs, beta=BETA, eta=ETA, distance=distance)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    weights = torch.arange(1.0, 41.0, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)
    torch.autograd.gradcheck(lambda *tensors: rpo_loss(*tensors, beta=BETA, eta=ETA, distance=distance)[0], inputs)


WORDS = "the cat sat on a mat and then it saw one more bird fly over that red house"
PAIRS = [
    ("the cat sat on", "a mat and then it saw", "that red bird"),
    ("then it saw one more", "bird fly", "house over the mat and a red cat"),
    ("a red", "house", "mat"),
]


def make_trl_trainer(folder) -> DPOTrainer:
    """TRL's own trainer over three pairs, with a reference that differs from the policy."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", *WORDS.split()])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.3, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    policy, reference = LlamaForCausalLM(config), LlamaForCausalLM(config)
    rows = [{"prompt": p + " ", "chosen": c, "rejected": r} for p, c, r in PAIRS]
    settings = DPOConfig(output_dir=str(folder), beta=0.3, per_device_train_batch_size=3, report_to="none",
                         use_cpu=True, bf16=False, activation_checkpointing=False)  # fmt: skip
    return DPOTrainer(policy, reference, settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def our_copy(model: LlamaForCausalLM) -> Decoder:
    decoder = Decoder(ModelConfig.from_hf(model.config.to_dict()))
    decoder.load_state_dict(model.state_dict())
    return decoder


def our_pairs(batch: dict[str, torch.Tensor], reference: Decoder) -> list[Pair]:
    """The sequences of TRL's batch (chosen ones first), with reference log-probabilities of our own."""
    documents = [
        Document.of(ids[kept].tolist(), mask[kept].bool().tolist())
        for ids, mask, kept in zip(
            batch["input_ids"], batch["completion_mask"], batch["attention_mask"].bool(), strict=True
        )
    ]
    pairs = [Pair(*both) for both in zip(documents[:3], documents[3:], strict=True)]
    with torch.no_grad():
        logprobs = torch.stack(pair_logprobs(reference, pairs), dim=1).tolist()
    return [Pair(p.chosen, p.rejected, *values) for p, values in zip(pairs, logprobs, strict=True)]


def test_dpo_equals_trl_on_the_same_batch(tmp_path):
    """From token ids to loss and gradients: padded batches and two forwards there, one packed row with shared
    prompts here."""
    trainer = make_trl_trainer(tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    policy, reference = our_copy(trainer.model), our_copy(trainer.ref_model)
    pairs = our_pairs(batch, reference)
    assert sum(len(pair.chosen.trained) for pair in pairs) == sum(len(c.split()) + 1 for _, c, _ in PAIRS)
    expected = trainer.compute_loss(trainer.model, batch)
    expected.backward()
    found, _ = Preference(policy, PreferenceSettings("dpo", beta=0.3)).loss(pairs, len(pairs))
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    theirs = dict(trainer.model.named_parameters())
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-3, atol=1e-5, msg=name)
