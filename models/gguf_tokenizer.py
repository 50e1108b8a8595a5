"""A tokenizer out of a GGUF file's metadata: byte-level BPE ("gpt2") or SentencePiece-style BPE ("llama").

GGUF stores vocabulary, merges (or scores) and token types, but not how text is cut into words before merging: for
that it only has a name (`tokenizer.ggml.pre`), and the rule behind each name is written here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from models.tokenizer import Tokenizer

CONTROL, USER_DEFINED = 3, 4
"""Values of `tokenizer.ggml.token_type` for tokens that text is never split inside of."""

_LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
_SINGLE_DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _GPT2])
_LLAMA3 = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(_LLAMA3_WORDS), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
WORD_RULES: dict[str, pre_tokenizers.PreTokenizer] = {
    "gpt-2": _GPT2,
    "olmo": _GPT2,
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    "refact": _SINGLE_DIGITS,
    "command-r": _SINGLE_DIGITS,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
}


def build_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """`metadata`: the GGUF's key-value pairs. Raises ValueError for a kind of tokenizer not covered."""
    values = {
        key.removeprefix("tokenizer.ggml."): value
        for key, value in metadata.items()
        if key.startswith("tokenizer.ggml.")
    }
    kind = values.get("model")
    if kind not in ("gpt2", "llama"):
        raise ValueError(f"tokenizer.ggml.model is {kind!r}; expected 'gpt2' (byte-level) or 'llama' (SentencePiece)")
    backend = _byte_level(values) if kind == "gpt2" else _sentencepiece(values)
    types = values.get("token_type", [])
    for special, wanted in ((True, CONTROL), (False, USER_DEFINED)):
        tokens = [token for token, found in zip(values["tokens"], types, strict=False) if found == wanted]
        added = [AddedToken(token, normalized=False, special=special) for token in tokens]
        backend.add_special_tokens(added) if special else backend.add_tokens(added)
    _add_bos_rule(backend, values, default=kind == "llama")
    return Tokenizer(
        backend,
        chat_template=metadata.get("tokenizer.chat_template", ""),
        bos_id=values.get("bos_token_id"),
        eos_id=values.get("eos_token_id"),
        pad_id=values.get("padding_token_id"),
    )


def _byte_level(values: Mapping[str, Any]) -> tokenizers.Tokenizer:
    rule = values.get("pre", "gpt-2")
    if rule not in WORD_RULES:
        raise ValueError(f"tokenizer.ggml.pre is {rule!r}; expected one of {sorted(WORD_RULES)}")
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(values["tokens"])},
            merges=[tuple(merge.split(" ")) for merge in values["merges"]],
            ignore_merges=WORD_RULES[rule] is _LLAMA3,
        )
    )
    backend.pre_tokenizer = WORD_RULES[rule]
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(values: Mapping[str, Any]) -> tokenizers.Tokenizer:
    unknown = values.get("unknown_token_id")
    tokens: Sequence[str] = values["tokens"]
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=merges_from_scores(tokens, values["scores"]),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = values.get("add_space_prefix", True)
    spaces = normalizers.Replace(" ", "▁")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return backend


def merges_from_scores(tokens: Sequence[str], scores: Sequence[float]) -> list[tuple[str, str]]:
    """The merges that a SentencePiece vocabulary implies: every split of a token into two tokens, best score first."""
    ids = {token: number for number, token in enumerate(tokens)}
    found = []
    for token, number in ids.items():
        halves = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        found += [(-scores[number], ids[a], ids[b], a, b) for a, b in halves if a in ids and b in ids]
    return [(a, b) for _, _, _, a, b in sorted(found)]


def _add_bos_rule(backend: tokenizers.Tokenizer, values: Mapping[str, Any], default: bool) -> None:
    """What other programs that open the folder put before plain text; our own encoding adds nothing."""
    bos = values.get("bos_token_id")
    if bos is not None and values.get("add_bos_token", default):
        token = values["tokens"][bos]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{token} $A", pair=f"{token} $A {token}:1 $B:1", special_tokens=[(token, bos)]
        )
