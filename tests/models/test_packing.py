import pytest
import torch

from models.config import ModelConfig
from models.decoder import Decoder, init_model
from models.objectives import NextToken, Preference, PreferenceSettings, Regression, pair_logprobs, read_hidden
from models.packing import Document, Pair, Rated, grown, pack_row
from models.parallel.workers import Workers

LLAMA = ModelConfig("llama", 101, 32, 64, 3, 4, 2, 8, tied_embeddings=True, init_std=0.2)
NEMOTRON = ModelConfig("nemotron", 101, 32, 64, 3, 4, 2, 12, rotary_fraction=0.5, init_std=0.2)


@pytest.fixture(params=[LLAMA, NEMOTRON], ids=["llama", "nemotron"])
def model(request) -> Decoder:
    return init_model(request.param, seed=1)


def tokens(length: int, seed: int) -> list[int]:
    return torch.randint(101, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def document(length: int, seed: int, prompt: int = 3) -> Document:
    return Document.of(tokens(length, seed), [i >= prompt for i in range(length)])


def pair(prompt: int, chosen: int, rejected: int, seed: int, **values: float) -> Pair:
    start = tokens(prompt, seed)
    answers = [Document.of(start + tokens(n, seed + i), [False] * prompt + [True] * n)
               for i, n in enumerate((chosen, rejected), 1)]  # fmt: skip
    return Pair(*answers, **values)


def gradients(model: Decoder, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def separate_logprob(model: Decoder, document: Document) -> torch.Tensor:
    """Summed log-probability of a document's trained tokens from plain logits, alone in its batch."""
    logprobs_TV = model(torch.tensor([document.token_ids]))[0].log_softmax(-1)
    places = torch.tensor(document.trained)
    return logprobs_TV[places - 1, torch.tensor(document.token_ids)[places]].sum()


@pytest.mark.parametrize("shared", [0, 30])
def test_filling_a_row_up_changes_nothing_that_is_read(model, shared):
    start = tokens(shared, 3)
    row = pack_row([Document.of([*start, 7, 8, 9, 4]), Document.of([*start, 6, 3, 5])])
    filled = row.filled(4)
    assert filled.token_ids_1T.shape[1] % 4 == 0 and filled.token_ids_1T.shape[1] > row.token_ids_1T.shape[1]
    torch.testing.assert_close(
        read_hidden(model, row), read_hidden(model, row, Workers(row_multiple=4)), rtol=0, atol=1e-5
    )
    assert row.filled(1) is row


def test_documents_are_cut_after_the_last_trained_token():
    cut = Document.of([5, 6, 7, 8, 9], [True, False, True, True, False])
    assert cut == Document((5, 6, 7, 8), (2, 3))
    assert cut.inputs == (5, 6, 7)
    assert Document.of([5, 6, 7]).trained == (1, 2)
    with pytest.raises(ValueError, match="none of a document's 3 tokens"):
        Document.of([5, 6, 7], [True, False, False])
    with pytest.raises(ValueError, match="3 tokens have a mask of 2"):
        Document.of([5, 6, 7], [True, False])


def assert_packed_as_separate(model: Decoder, documents: list[Document]) -> None:
    """Loss and gradients."""
    total = sum(len(d.trained) for d in documents)
    packed, _ = NextToken(model).loss(documents, total)
    separate = -sum(separate_logprob(model, d) for d in documents) / total
    torch.testing.assert_close(packed, separate)
    for mine, theirs in zip(gradients(model, packed), gradients(model, separate), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_packed_loss_and_gradients_equal_unpacked_ones(model):
    documents = [document(length, seed) for seed, length in enumerate((40, 21, 64, 5))]
    assert_packed_as_separate(model, documents)


def beginning_alike(seed: int) -> list[Document]:
    """Three that share 20 tokens, two of them 40; and one that shares nothing."""
    start, more = tokens(20, 91), tokens(20, 92)
    parts = [
        [*start, *more, *tokens(9, seed)],
        [*start, *tokens(40, 93)],
        [*start, *more, *tokens(25, 94)],
        tokens(30, 95),
    ]
    return [Document.of(part, [i >= 22 for i in range(len(part))]) for part in parts]


def test_what_begins_alike_is_read_once_and_changes_nothing(model):
    documents = beginning_alike(seed=1)
    assert grown(documents).tokens == 20 + 20 + 8 + 39 + 24 + 29
    assert_packed_as_separate(model, documents)


def test_changing_one_document_changes_no_bit_of_those_that_begin_alike(model):
    def others(seed: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        documents = beginning_alike(seed)
        row = pack_row(documents)
        logits_NV = model.unembed(read_hidden(model, row))[row.counts[0] :]
        loss = torch.nn.functional.cross_entropy(logits_NV, row.targets_N[row.counts[0] :])
        return loss.detach(), gradients(model, loss)

    (loss, slopes), (other_loss, other_slopes) = others(1), others(2)
    assert torch.equal(loss, other_loss) and all(map(torch.equal, slopes, other_slopes))


def test_changing_one_document_changes_no_other_bit(model):
    """Loss and gradient of B, packed behind A: the same bits whatever A says, and also for another length of A."""
    b = document(30, seed=7)

    def b_alone(a: Document) -> tuple[torch.Tensor, list[torch.Tensor]]:
        row = pack_row([a, b])
        logits_NV = model.unembed(read_hidden(model, row))[-len(b.trained) :]
        loss = torch.nn.functional.cross_entropy(logits_NV, row.targets_N[-len(b.trained) :])
        return loss.detach(), gradients(model, loss)

    loss, slopes = b_alone(document(25, seed=1))
    same_length_loss, same_length_slopes = b_alone(document(25, seed=2))
    other_length_loss, other_length_slopes = b_alone(document(38, seed=3))
    assert torch.equal(loss, same_length_loss)
    assert all(map(torch.equal, slopes, same_length_slopes))
    assert torch.equal(loss, other_length_loss)
    for mine, theirs in zip(slopes, other_length_slopes, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-7)


def test_isolation_test_can_fail(model):
    """Plain causal attention over the same row does let A into B."""
    b = document(30, seed=7)
    rows = [pack_row([document(25, seed), b]) for seed in (1, 2)]
    leaking = [model.hidden(row.token_ids_1T, row.positions_1T)[0, -20:] for row in rows]
    assert all(row.forest.apart for row in rows)
    assert not torch.allclose(*leaking, atol=1e-3)


@pytest.mark.parametrize(("prompt", "chosen", "rejected"), [(20, 15, 9), (1, 4, 30), (12, 1, 1), (30, 2, 18)], ids=str)
def test_shared_prompt_gives_the_logprobs_of_separate_sequences(model, prompt, chosen, rejected):
    pairs = [pair(prompt, chosen, rejected, seed=11), pair(9, 7, 5, seed=23)]
    chosen_P, rejected_P = pair_logprobs(model, pairs)
    expected = [(separate_logprob(model, p.chosen), separate_logprob(model, p.rejected)) for p in pairs]
    torch.testing.assert_close(chosen_P, torch.stack([e[0] for e in expected]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rejected_P, torch.stack([e[1] for e in expected]), rtol=1e-5, atol=1e-5)
    weights = torch.tensor([1.0, -0.5])
    found = gradients(model, (chosen_P * weights).sum() - (rejected_P * weights).sum())
    separate = gradients(model, sum(w * (c - r) for w, (c, r) in zip(weights, expected, strict=True)))
    for mine, theirs in zip(found, separate, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(("chosen", "rejected"), [([4, 5, 6], [4, 5, 6, 7, 8]), ([4, 5, 6, 7, 8], [4, 5, 6]),
                                                  ([4, 5, 6], [4, 5, 9])])  # fmt: skip
def test_answers_that_begin_alike_or_contain_each_other(model, chosen, rejected):
    start = [1, 2, 3]
    branches = [Document.of(start + answer, [False] * 3 + [True] * len(answer)) for answer in (chosen, rejected)]
    found = pair_logprobs(model, [Pair(*branches)])
    for mine, branch in zip(found, branches, strict=True):
        torch.testing.assert_close(mine[0], separate_logprob(model, branch), rtol=1e-5, atol=1e-5)


def test_rated_conversations_are_read_at_their_last_token(model):
    rated = [Rated(tuple(tokens(n, n)), (1.0,) * 5) for n in (12, 30)]
    hidden_ND = read_hidden(model, pack_row(rated))
    for found, example in zip(hidden_ND, rated, strict=True):
        alone = model.hidden(torch.tensor([example.token_ids]))[0, -1]
        torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)


class FiveAttributes:
    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def attributes(self, hidden_end_ND: torch.Tensor) -> torch.Tensor:
        return hidden_end_ND[:, :5]


def objectives_and_examples(model: Decoder):
    nan = float("nan")
    rewards = [(2.0, 1.0), (0.5, 0.75), (3.0, 0.0), (1.5, 1.0)]
    pairs = [pair(8 + i, 6 + 3 * i, 14 - 2 * i, seed=i, reference_chosen=-20.0 - i, reference_rejected=-30.0,
                  chosen_reward=c, rejected_reward=r) for i, (c, r) in enumerate(rewards)]  # fmt: skip
    settings = [PreferenceSettings(beta=0.2, sft_weight=0.01), PreferenceSettings("dpo", beta=0.2, sft_weight=0.01)]
    rated = [Rated(tuple(tokens(9 + i, i)), (1.0, nan, float(i), 4.0, nan if i else 2.0)) for i in range(4)]
    return {
        "next token": (NextToken(model), [document(20 + 7 * i, i) for i in range(4)]),
        "rpo": (Preference(model, settings[0]), pairs),
        "dpo": (Preference(model, settings[1]), pairs),
        "regression": (Regression(FiveAttributes(model)), rated),
    }


@pytest.mark.parametrize("name", ["next token", "rpo", "dpo", "regression"])
def test_microbatches_add_up_to_the_global_batch(model, name):
    """1 x 4 = 4 x 1 = 3 + 1: loss, metrics and gradients."""
    objective, examples = objectives_and_examples(model)[name]
    total = sum(map(objective.weight, examples))
    whole, whole_metrics = objective.loss(examples, total)
    expected = torch.autograd.grad(whole, list(model.parameters()), allow_unused=True)
    for parts in ([[e] for e in examples], [examples[:3], examples[3:]]):
        results = [objective.loss(part, total) for part in parts]
        loss = sum(loss for loss, _ in results)
        torch.testing.assert_close(loss, whole, rtol=1e-5, atol=1e-6)
        for key, value in whole_metrics.items():
            torch.testing.assert_close(sum(metrics[key] for _, metrics in results), value, rtol=1e-4, atol=1e-5)
        found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        for mine, theirs in zip(found, expected, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
