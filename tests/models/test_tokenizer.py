"""The tokenizer's files, and that its ids are those of transformers reading the same folder."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from models.chat import CHATML_TEMPLATE
from models.tokenizer import Tokenizer

TEXTS = [
    "Hello, world!",
    "hello hello\n\n\nwell",
    "  leading,   inner    and trailing   ",
    "1234567890 3.14 -7 1e9 ½ ²",
    "사과는 빨갛다. 한국어 12개!",
    "naïve café — “quotes” … 🙂👩‍💻 𝔘𝔫𝔦",
    "def f(x):\n\treturn {x: [1, 2]}  # ok\r\n",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "don't I'll we've they'RE",
    "",
]


def test_encoding_adds_nothing_and_decoding_gives_the_text_back(make_tokenizer):
    tokenizer = make_tokenizer(bos="<|endoftext|>")
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False) == text
    assert tokenizer.encode("<|im_end|>") == [2]
    assert tokenizer.decode([1, *tokenizer.encode("hell"), 2]) == "hell"
    assert tokenizer.token_id("<|im_start|>") == 1
    assert tokenizer.token_id("no such token") is None


def test_a_saved_tokenizer_is_the_same_here_and_in_transformers(make_tokenizer, tmp_path: Path):
    tokenizer = make_tokenizer(bos="<|endoftext|>")
    tokenizer.save(tmp_path)
    again, theirs = Tokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert again.digest() == tokenizer.digest()
    for text in TEXTS:
        assert again.encode(text) == tokenizer.encode(text) == theirs(text)["input_ids"]
    assert (again.bos_id, again.eos_id, again.pad_id) == (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
    assert again.chat_template == theirs.chat_template == CHATML_TEMPLATE


def test_saving_twice_gives_the_same_bytes(make_tokenizer, tmp_path: Path):
    for name in ("a", "b"):
        make_tokenizer().save(tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_template_file_wins_and_an_older_one_does_not_survive_saving(make_tokenizer, tmp_path: Path):
    make_tokenizer().save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("other")
    assert Tokenizer.load(tmp_path).chat_template == "other"
    make_tokenizer().save(tmp_path)
    assert Tokenizer.load(tmp_path).chat_template == CHATML_TEMPLATE


def test_named_templates_and_token_objects_are_read(make_tokenizer, tmp_path: Path):
    make_tokenizer().save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["eos_token"] = {"content": "<|endoftext|>", "special": True}
    settings["chat_template"] = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    path.write_text(json.dumps(settings))
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.eos_id, tokenizer.chat_template) == (0, "yes")


def test_the_digest_sees_template_and_special_tokens(make_tokenizer):
    digests = {make_tokenizer().digest(), make_tokenizer("x").digest(), make_tokenizer(eos="<|endoftext|>").digest()}
    assert len(digests) == 3


def test_unusable_files_are_named(make_tokenizer, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    make_tokenizer().save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"eos_token": "</s>"}))
    with pytest.raises(ValueError, match="eos_token is '</s>'"):
        Tokenizer.load(tmp_path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="holds a JSON list"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(ValueError, match="is not a tokenizer"):
        Tokenizer.load(tmp_path)


def test_a_special_id_outside_the_vocabulary_is_refused(make_tokenizer):
    with pytest.raises(ValueError, match="eos_id is 9999"):
        Tokenizer(make_tokenizer().backend, eos_id=9999)
