"""Packed weights: the decoder's own numbers, and bits of a row that do not depend on how many rows there are."""

from collections.abc import Callable

import pytest
import torch

from models.decoder import Decoder
from models.engine.packed import PackedLinear, can_pack, pack
from models.engine.parallel import SummedLinear


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", ["nemotron", "llama"])
def test_logits_are_those_of_the_decoder(make_model: Callable[..., Decoder], family: str, tied: bool) -> None:
    model = make_model(family, tied_embeddings=tied)
    token_ids = torch.randint(0, 200, (2, 40), generator=torch.Generator().manual_seed(0))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.inference_mode():
        torch.testing.assert_close(pack(model)(token_ids), model(token_ids), rtol=0, atol=1e-5)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("inputs", "outputs"), [(576, 960), (576, 1536), (1536, 576), (576, 4096), (48, 80)])
def test_a_rows_bits_do_not_depend_on_how_many_there_are(inputs: int, outputs: int, threads: int) -> None:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(1)
    layer = PackedLinear(torch.randn(outputs, inputs, generator=generator))
    x = torch.randn(300, inputs, generator=generator)
    times = torch.rand(300, outputs, generator=generator)
    whole = [layer(x), layer(x, "swish"), layer(x, times_MO=times)]
    for rows in (1, 2, 3, 5, 8, 11, 16, 17, 63, 64, 65, 128, 255):
        for start in (0, 7, 40):
            part = slice(start, start + rows)
            found = [layer(x[part]), layer(x[part], "swish"), layer(x[part], times_MO=times[part])]
            assert all(torch.equal(a, b[part]) for a, b in zip(found, whole, strict=True)), rows


def test_other_precisions_and_parts_of_a_model_stay_as_they_are(make_model: Callable[..., Decoder]) -> None:
    assert can_pack(make_model())
    assert not can_pack(make_model().to(torch.bfloat16))
    part = make_model()
    part.layers[0].self_attn.o_proj = SummedLinear(96, 48)
    assert not can_pack(part)
