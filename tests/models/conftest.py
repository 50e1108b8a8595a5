"""A tokenizer small enough to read: one token for each byte, a few merges, ChatML's and Nemotron's special tokens."""

from collections.abc import Callable

import pytest
from tokenizers import AddedToken, decoders, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers import models as backends

from models.chat import CHATML_TEMPLATE
from models.tokenizer import Tokenizer

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<extra_id_0>", "<extra_id_1>"]
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("Ċ", "Ċ"), ("Ġ", "w")]


@pytest.fixture
def make_tokenizer() -> Callable[..., Tokenizer]:
    """`make_tokenizer(template, eos="<|im_end|>", bos=None)`; ids 0 to 4 are the special tokens."""

    def make(template: str = CHATML_TEMPLATE, eos: str = "<|im_end|>", bos: str | None = None) -> Tokenizer:
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        words = [*SPECIAL_TOKENS, *letters, *("".join(merge) for merge in MERGES)]
        backend = Backend(backends.BPE(vocab={word: number for number, word in enumerate(words)}, merges=MERGES))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
        bos_id = None if bos is None else backend.token_to_id(bos)
        return Tokenizer(backend, template, bos_id=bos_id, eos_id=backend.token_to_id(eos), pad_id=0)

    return make
