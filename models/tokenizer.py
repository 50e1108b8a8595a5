"""Text to token ids and back: a Hugging Face `tokenizer.json` with its special tokens and chat template."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"


class Tokenizer:
    """Encodes exactly what it is given: nothing is added, special tokens written in the text are recognised."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        chat_template: str = "",
        bos_id: int | None = None,
        eos_id: int | None = None,
        pad_id: int | None = None,
    ) -> None:
        """Raises ValueError for a special id that the vocabulary does not hold."""
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.chat_template = chat_template
        self.bos_id, self.eos_id, self.pad_id = bos_id, eos_id, pad_id
        for name, token_id in (("bos", bos_id), ("eos", eos_id), ("pad", pad_id)):
            if token_id is not None and backend.id_to_token(token_id) is None:
                raise ValueError(f"{name}_id is {token_id}, which is not in the vocabulary of {self.vocab_size}")

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id: the rows that an embedding needs."""
        return max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Tokens that text is never split inside of, with their ids."""
        added = self.backend.get_added_tokens_decoder()
        return {token.content: token_id for token_id, token in sorted(added.items())}

    def encode(self, text: str) -> list[int]:
        return self.backend.encode(text, add_special_tokens=False).ids

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self.backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def token_id(self, text: str) -> int | None:
        """The id of the token that is spelled `text`, None where there is none."""
        return self.backend.token_to_id(text)

    def token(self, token_id: int | None) -> str | None:
        """How a token is spelled; None for None and for an id outside the vocabulary."""
        return None if token_id is None else self.backend.id_to_token(token_id)

    def digest(self) -> str:
        """128 bits, as 32 hexadecimal digits, over everything that decides which ids a conversation becomes."""
        parts = [self.backend.to_str(), self.chat_template, self.bos_id, self.eos_id, self.pad_id]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def save(self, folder: str | Path) -> None:
        """Write the files that transformers' AutoTokenizer opens."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.token(self.bos_id),
            "eos_token": self.token(self.eos_id),
            "pad_token": self.token(self.pad_id),
            "clean_up_tokenization_spaces": False,
        }
        (folder / TEMPLATE_FILE).unlink(missing_ok=True)  # an older one would win over the settings
        if self.chat_template:
            settings["chat_template"] = self.chat_template
        (folder / TOKENIZER_FILE).write_text(self.backend.to_str(pretty=True), encoding="utf-8")
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        (folder / TOKENIZER_CONFIG_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Raises FileNotFoundError without a tokenizer.json, ValueError where a file cannot be read."""
        folder = Path(folder)
        path = folder / TOKENIZER_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no {TOKENIZER_FILE}; a model folder needs its own tokenizer")
        try:
            backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path} is not a tokenizer: {error}") from error
        settings = read_json_object(folder / TOKENIZER_CONFIG_FILE)
        ids = [_special_id(backend, settings, name, folder) for name in ("bos_token", "eos_token", "pad_token")]
        return cls(backend, _read_template(folder, settings), *ids)


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file, {} where there is no file. Raises ValueError for anything else."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a JSON {type(value).__name__}; expected an object")
    return value


def _special_id(backend: tokenizers.Tokenizer, settings: dict[str, Any], name: str, folder: Path) -> int | None:
    token = settings.get(name)
    spelling = token.get("content") if isinstance(token, dict) else token
    if spelling is None:
        return None
    token_id = backend.token_to_id(spelling)
    if token_id is None:
        raise ValueError(
            f"{folder / TOKENIZER_CONFIG_FILE}: {name} is {spelling!r}, which {TOKENIZER_FILE} does not hold; "
            "the two files come from different tokenizers"
        )
    return token_id


def _read_template(folder: Path, settings: dict[str, Any]) -> str:
    """The default chat template; a file of its own wins over the settings, as in transformers. "" for none."""
    path = folder / TEMPLATE_FILE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = settings.get("chat_template") or ""
    if isinstance(template, list):  # several named templates
        template = {entry["name"]: entry["template"] for entry in template}.get("default", "")
    return template
