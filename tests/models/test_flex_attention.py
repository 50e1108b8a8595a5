"""The mask for GPUs sees what the processor's attention sees; here in its plain form, within 1e-6."""

import pytest
import torch

from models.flex_attention import FlexAttention
from models.packing import attention_over

DOCUMENTS = [(5, 5, 5), (1, 1, 1), (9, 9, 9)]
PAIRS = [(4, 9, 12), (3, 3, 8), (2, 6, 6), (5, 5, 5)]


def operands(shapes: list[tuple[int, int, int]]) -> tuple[torch.Tensor, ...]:
    """Queries of four heads, keys and values of two, for a row of these trees."""
    generator = torch.Generator().manual_seed(0)
    tokens = sum(length for _, _, length in shapes)
    query = torch.randn(1, tokens, 4, 16, generator=generator)
    return query, *torch.randn(2, 1, tokens, 2, 16, generator=generator)


@pytest.mark.parametrize("shapes", [DOCUMENTS, PAIRS], ids=["documents", "pairs"])
def test_it_attends_as_the_processor_does(shapes: list[tuple[int, int, int]]) -> None:
    query, key, value = operands(shapes)
    expected = attention_over(shapes)(0, query, key, value)
    found = FlexAttention(shapes, torch.device("cpu"))(0, query, key, value)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
