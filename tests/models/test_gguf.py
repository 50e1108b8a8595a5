"""GGUF import against transformers' own: SmolLM2's tokenizer, and small files with every kind of block and name."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from models.checkpoint import load_model
from models.config import RopeScaling
from models.gguf import import_gguf
from models.gguf_file import GGUFFile
from models.gguf_tokenizer import build_tokenizer
from models.tokenizer import Tokenizer

logging.disable_progress_bar()

Kind = gguf.GGMLQuantizationType
HIDDEN, WIDTH, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 256, 512, 2, 4, 2, 64
TEXTS = [
    "The quick brown fox jumps over 13 lazy dogs in 2024.",
    "12345 + 67,890 = 80235; 3.14159; 1e-9; x²",
    "  two spaces,    four,\ttabs\t\t and trailing   ",
    "line\n\n\nbreaks\r\n\r\nand\n  indents\n\t- lists",
    "한국어 문장입니다. 사과 3개와 배 12개!",
    "naïve café — “quotes” … 🙂👩‍💻 日本語 عربى русский",
    "def f(xs: list[int]) -> dict:\n    return {x: x**2 for x in xs if x != 0}  # squares",
    "<|im_start|>user\nhi there<|im_end|>\n<|im_start|>assistant\n",
    "I'll don't they've WE'RE it's; http://a.b/c?d=e&f=%20",
    "",
]


def write_model(path: Path, kinds: tuple[Kind, ...], extra: Callable[[gguf.GGUFWriter], None] | None = None) -> Path:
    """A Llama of two layers whose matrices take the `kinds` in turn; `extra` may add to the file."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_license("mit")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "ll", "<|end|>"]
    add_byte_level(writer, tokens)
    random = np.random.default_rng(0)
    matrices = [("token_embd", len(tokens), HIDDEN), ("output", len(tokens), HIDDEN)]
    norms = ["output_norm"]
    for layer in range(LAYERS):
        names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
        rows = (HIDDEN, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, HIDDEN, WIDTH, WIDTH, HIDDEN)
        columns = (HIDDEN,) * 6 + (WIDTH,)
        matrices += [(f"blk.{layer}.{n}", r, c) for n, r, c in zip(names, rows, columns, strict=True)]
        norms += [f"blk.{layer}.attn_norm", f"blk.{layer}.ffn_norm"]
    for name in norms:
        writer.add_tensor(f"{name}.weight", random.normal(1.0, 0.1, HIDDEN).astype(np.float32))
    for number, (name, rows, columns) in enumerate(matrices):
        add_matrix(writer, f"{name}.weight", random.normal(0, 0.1, (rows, columns)), kinds[number % len(kinds)])
    if extra:
        extra(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_byte_level(writer: gguf.GGUFWriter, tokens: list[str], rule: str = "smollm") -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges(["h e", "l l"])
    writer.add_eos_token_id(tokens.index("<|end|>"))


def add_matrix(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: Kind) -> None:
    """Quantise; for k-quants, which the package only decodes, random blocks with small scales."""
    try:
        data = gguf.quantize(values.astype(np.float32), kind)
    except NotImplementedError:
        block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        rows, columns = values.shape
        blocks = np.random.default_rng(1).integers(0, 256, (rows, columns // block_values, block_bytes), dtype=np.uint8)
        scale = np.frombuffer(np.float16(0.002).tobytes(), np.uint8)
        places = {Kind.Q2_K: (80, 82), Kind.Q3_K: (108,), Kind.Q4_K: (0, 2), Kind.Q5_K: (0, 2), Kind.Q6_K: (208,)}
        for place in places[kind]:
            blocks[:, :, place : place + 2] = scale
        data = blocks.reshape(rows, -1)
    writer.add_tensor(name, data, raw_dtype=kind)


@pytest.mark.parametrize(
    "kinds",
    [
        (Kind.F32, Kind.F16, Kind.BF16),
        (Kind.Q4_0, Kind.Q4_1, Kind.Q8_0, Kind.Q5_0, Kind.Q5_1),
        (Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K),
    ],
    ids=("floats", "blocks of 32", "k-quants"),
)
def test_every_kind_of_block_gives_transformers_logits(kinds: tuple[Kind, ...], tmp_path: Path):
    path = write_model(tmp_path / "small.gguf", kinds)
    imported = import_gguf(path, tmp_path / "folder")
    assert (imported.name, imported.licence) == ("small", "mit")
    model, _ = load_model(tmp_path / "folder")
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    row = torch.arange(0, 250, 3)[None]
    with torch.no_grad():
        ours, theirs = model(row), reference(row).logits
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)  # measured: 0.0


def test_llama3_rotation_is_recognised(tmp_path: Path):
    wanted = RopeScaling("llama3", factor=32.0)

    def add_factors(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("rope_freqs.weight", llama3_factors(wanted))

    write_model(tmp_path / "a.gguf", (Kind.F32,), add_factors)
    assert import_gguf(tmp_path / "a.gguf", tmp_path / "a").config.rope_scaling == wanted

    def add_nonsense(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("rope_freqs.weight", np.linspace(1, 9, HEAD_DIM // 2, dtype=np.float32))

    write_model(tmp_path / "b.gguf", (Kind.F32,), add_nonsense)
    with pytest.raises(ValueError, match="not Llama 3's rotation"):
        import_gguf(tmp_path / "b.gguf", tmp_path / "b")


def llama3_factors(scaling: RopeScaling) -> np.ndarray:
    """Divisors of each frequency, written out from the definition (Llama 3.1 model code), one pair at a time."""
    factors = []
    for pair in range(HEAD_DIM // 2):
        wavelength = 2 * np.pi * 5000.0 ** (2 * pair / HEAD_DIM)
        longest, shortest = 8192 / scaling.low_freq_factor, 8192 / scaling.high_freq_factor
        if wavelength < shortest:
            factors.append(1.0)
        elif wavelength > longest:
            factors.append(scaling.factor)
        else:
            smooth = (8192 / wavelength - scaling.low_freq_factor) / (
                scaling.high_freq_factor - scaling.low_freq_factor
            )
            factors.append(1 / ((1 - smooth) / scaling.factor + smooth))
    return np.array(factors, dtype=np.float32)


def test_smollm2s_tokenizer_is_transformers(smollm_gguf: Path, smollm_folder: Path):
    ours = Tokenizer.load(smollm_folder)
    theirs = AutoTokenizer.from_pretrained(smollm_gguf.parent, gguf_file=smollm_gguf.name)
    for text in TEXTS:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text
        assert ours.decode(ours.encode(text), skip_special_tokens=False) == text
    assert ours.chat_template == theirs.chat_template
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (1, 2, 2)
    exported = AutoTokenizer.from_pretrained(smollm_folder)
    assert all(exported(text)["input_ids"] == ours.encode(text) for text in TEXTS)


def test_digits_stand_alone_as_the_file_says(smollm_folder: Path):
    """The file names the word rule "smollm", which cuts digits off before spaces are looked at (transformers' GGUF
    reader does not know that name, and joins a space to a numeral or splits the spaces before it)."""
    tokenizer = Tokenizer.load(smollm_folder)
    assert tokenizer.encode("a ½") == tokenizer.encode("a ") + tokenizer.encode("½")
    assert [tokenizer.token(i) for i in tokenizer.encode("a   12")] == ["a", "ĠĠĠ", "1", "2"]


def sentencepiece_metadata(add_space_prefix: bool) -> dict:
    pieces = ["▁", "h", "e", "l", "o", "he", "ll", "hell", "hello", "▁hello", "w", "▁w", "▁▁"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    scores = [0.0] * 259 + [-float(n) for n in range(len(pieces))]
    types = [2, 3, 3] + [6] * 256 + [1] * len(pieces)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": add_space_prefix,
    }


def test_sentencepiece_vocabularies_merge_by_score_and_fall_back_to_bytes(tmp_path: Path):
    tokenizer = build_tokenizer(sentencepiece_metadata(add_space_prefix=True))
    assert [tokenizer.token(i) for i in tokenizer.encode("hello  w한")] == [
        "▁hello", "▁", "▁w", "<0xED>", "<0x95>", "<0x9C>",
    ]  # fmt: skip
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("hello  w한", "", "well\nhello", " 🙂 "):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert theirs(text)["input_ids"] == [1, *tokenizer.encode(text)]  # others begin plain text with BOS
    bare = build_tokenizer(sentencepiece_metadata(add_space_prefix=False))
    assert bare.token(bare.encode("hello")[0]) == "hello"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer.ggml.model": "bert"}, "tokenizer.ggml.model is 'bert'"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "tekken"}, "tokenizer.ggml.pre is 'tekken'"),
    ],
)
def test_other_tokenizers_are_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build_tokenizer(sentencepiece_metadata(True) | changes)


def test_damaged_and_foreign_files_are_named(tmp_path: Path):
    path = write_model(tmp_path / "good.gguf", (Kind.F16,))
    whole = path.read_bytes()
    damaged = tmp_path / "damaged.gguf"
    for length in (len(whole) - 1000, 3000, 20):
        damaged.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged or cut short"):
            import_gguf(damaged, tmp_path / "out")
    damaged.write_bytes(b"PK\x03\x04" + whole[4:])
    with pytest.raises(ValueError, match="does not begin with 'GGUF'"):
        import_gguf(damaged, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="expected a GGUF model"):
        import_gguf(tmp_path / "none.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (lambda w: w.add_expert_count(8), "a mixture of 8 experts"),
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), "rope scaling 'yarn'"),
        (lambda w: w.add_rope_dimension_count(32), "rotates 32 of 64 dimensions"),
        (lambda w: w.add_tensor("blk.0.attn_q.bias", np.zeros(HIDDEN, np.float32)), "no place in the Llama decoder"),
        (lambda w: w.add_tensor("blk.7.attn_norm.weight", np.zeros(HIDDEN, np.float32)), "do not fit its metadata"),
    ],
)
def test_models_that_the_decoder_does_not_cover_are_refused(extra: Callable, message: str, tmp_path: Path):
    path = write_model(tmp_path / "other.gguf", (Kind.F16,), extra)
    with pytest.raises(ValueError, match=message):
        import_gguf(path, tmp_path / "out")


def test_the_container_is_read_as_the_gguf_package_reads_it(tmp_path: Path):
    path = write_model(tmp_path / "small.gguf", (Kind.Q4_0, Kind.F32))
    ours, theirs = GGUFFile(path), gguf.GGUFReader(path)
    named = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert ours.metadata == named
    for tensor in theirs.tensors:
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(ours.values(tensor.name), expected)
