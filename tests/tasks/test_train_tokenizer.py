"""A tokenizer learnt by SentencePiece and written for others: the same ids, and nothing of a text is lost."""

import pytest
import sentencepiece
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError
from models.chat import encode_dialogue
from models.tokenizer import Tokenizer
from tasks import train_tokenizer
from tasks.configs.pretraining_data import TrainTokenizerConfig
from tasks.rows import TEXT, make_row

SENTENCE = "the cat sat on a mat and then ran home again while her brother walked to the market for bread"
WORDS = SENTENCE.split()
CODE = """def total(values):
    result = 0
    for value in values:
        result += value
    return {"sum": result}
"""
DOCUMENTS = [
    *(" ".join(WORDS[i % len(WORDS) :] + WORDS[: i % 7]) + f". Page {i * 37} of {i}.\n" for i in range(120)),
    *(CODE.replace("total", name).replace("value", other) for name in WORDS for other in ("item", "entry", "number")),
    *("한국어 문장은 이렇게 생겼다. 고양이가 매트 위에 앉았다.\n\n" for _ in range(40)),
    *("naïve café – “quoted” …   three   spaces\t\ttabs" for _ in range(20)),
]
AWKWARD = [
    "1234567890 3.14159 ١٢٣ 007",
    "👍🏽 👩‍👩‍👧 🇰🇷 plain",
    "한국어 고양이 뷁 漢字 かな",
    " leading, trailing ",
    "a  b   c    d     e" + " " * 17 + "f" + " " * 40,
    "    indented\n        more\n\n\n\r\n\tend",
    "\n", " ", "", "e\u0301 vs \u00e9", "ﬁne ½ Å", "\u200b\ufeff zero width", "\x01\x7f control",
    "<0x41> <unk> <s> </s>", "aaaaaaaaaaaaaaaaaaaaaaa", "thethethethe catcat", "…" * 9,
    CODE, DOCUMENTS[3] + DOCUMENTS[-1],
    "before<|im_start|>user\nhello<|im_end|>\n<|endoftext|>after",
]  # fmt: skip
CONFIG = TrainTokenizerConfig(vocabulary=600)


def text_rows(texts: list[str]) -> list[dict]:
    values = {"source": "t", "synthetic": False, "generator": "", "licence": "CC0-1.0"}
    return [make_row(TEXT, values | {"text": text}, [number, text]) for number, text in enumerate(texts)]


@pytest.fixture
def made(run_stage, give_rows) -> Artifact:
    return run_stage(train_tokenizer.run, CONFIG, texts=give_rows("texts", text_rows(DOCUMENTS), TEXT))


@pytest.fixture
def both(made) -> tuple[Tokenizer, sentencepiece.SentencePieceProcessor]:
    folder = made.folder()
    return Tokenizer.load(folder), sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


@pytest.mark.parametrize("text", AWKWARD)
def test_ids_are_sentencepiece_s_own_and_decode_to_the_same_text(both, text):
    ours, theirs = both
    token_ids = ours.encode(text)
    assert token_ids == theirs.encode(text)
    assert ours.decode(token_ids, skip_special_tokens=False) == text


def test_any_text_at_all(both):
    ours, theirs = both
    some = st.text(st.sampled_from("ab  \n\tth e한국…1👍é"), max_size=80) | st.text(max_size=40)

    @settings(max_examples=400, deadline=None)
    @given(some.filter(lambda text: "▁" not in text and "\0" not in text))
    def same(text: str) -> None:
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text), skip_special_tokens=False) == text

    same()


def test_digits_stand_alone_and_rare_characters_are_bytes(both):
    ours, _ = both
    assert [ours.decode([token]) for token in ours.encode("20 481")] == ["2", "0", " ", "4", "8", "1"]
    assert [ours.token(token) for token in ours.encode("👍")] == ["<0xF0>", "<0x9F>", "<0x91>", "<0x8D>"]
    assert all(sum(c.isdigit() for c in name) < 2 for name in ours.backend.get_vocab() if not name.startswith("<0x"))
    assert len(ours.encode("        result")) < 5, "runs of spaces are tokens"


def test_the_folder_is_a_whole_tokenizer(made, both):
    ours, theirs = both
    assert ours.vocab_size == theirs.vocab_size() == 600 == made.manifest().metrics["vocabulary"]
    assert ours.special_tokens.keys() == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    assert ours.eos_id == ours.token_id("<|endoftext|>") == ours.pad_id
    theirs_too = transformers.AutoTokenizer.from_pretrained(made.folder())
    assert theirs_too.encode(CODE, add_special_tokens=False) == ours.encode(CODE)
    messages = [{"role": "user", "content": "Hi 12"}, {"role": "assistant", "content": "the cat"}]
    token_ids, trained = encode_dialogue(ours, messages)
    learnt = ours.decode([t for t, flag in zip(token_ids, trained, strict=True) if flag], False)
    assert learnt == "the cat<|im_end|>"
    assert made.manifest().result["licences"] == ["CC0-1.0"] and made.manifest().metrics["documents"] == len(DOCUMENTS)


def test_it_is_made_the_same_twice_and_from_a_sample_of_too_many(run_stage, give_rows, made):
    texts = give_rows("same", text_rows(DOCUMENTS), TEXT)
    again = run_stage(train_tokenizer.run, CONFIG, texts=(texts,))
    assert [file.sha256 for file in again.manifest().files] == [file.sha256 for file in made.manifest().files]
    fewer = CONFIG.model_copy(update={"max_documents": 100})
    sampled = run_stage(train_tokenizer.run, fewer, texts=texts).manifest().metrics["documents"]
    assert 60 < sampled < 140


def test_a_vocabulary_that_does_not_fit_is_refused(run_stage, give_rows):
    texts = give_rows("few", text_rows(["a b c d"]), TEXT)
    with pytest.raises(InputError, match="no vocabulary of 600 tokens out of 1 documents"):
        run_stage(train_tokenizer.run, CONFIG, texts=texts)
    with pytest.raises(EmptyDataset, match="no documents"):
        run_stage(train_tokenizer.run, CONFIG, texts=give_rows("none", text_rows([""]), TEXT))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"special_tokens": ("<|endoftext|>",)}, "expected different texts"),
        ({"special_tokens": ("<a>",)}, "special_tokens lack"),
    ],
)
def test_special_tokens_fit_together(changes, words):
    with pytest.raises(ValueError, match=words):
        TrainTokenizerConfig(**changes)
