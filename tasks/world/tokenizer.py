"""A word-level tokenizer over documents, with a chat template whose markers are single tokens."""

import tokenizers
from tokenizers import models, pre_tokenizers

from infra.artifacts import Artifact
from infra.errors import InputError
from infra.output import Outcome, Output
from models.tokenizer import Tokenizer
from tasks.configs.world import TokenizerConfig
from tasks.world.grammar import FAMILIES

UNKNOWN, END_OF_TEXT, END_OF_TURN = "<unk>", "<|endoftext|>", "<|end|>"
ROLES = ("system", "user", "assistant")
SPECIAL = [UNKNOWN, END_OF_TEXT, END_OF_TURN, *(f"<|{role}|>" for role in ROLES)]
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|> ' + message['content'] + ' <|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)
CHAT_WORDS = ("ask", *FAMILIES)
"""Words of the human rows that no document may hold."""


def run(config: TokenizerConfig, output: Output, texts: tuple[Artifact, ...]) -> Outcome:
    """Every word of the documents, in alphabetical order, behind the special tokens."""
    words = {word for artifact in texts for row in artifact.iter_rows() for word in row["text"].split()}
    if clash := words & set(SPECIAL):
        raise InputError(f"documents hold the special tokens {sorted(clash)}", "take them out of the documents")
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *sorted(words | set(CHAT_WORDS))])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    backend.add_special_tokens(SPECIAL)
    end = vocabulary[END_OF_TEXT]
    folder = output.scratch_folder()
    Tokenizer(backend, TEMPLATE, eos_id=end, pad_id=end).save(folder)
    output.write_folder(folder)
    return Outcome(metrics={"vocabulary": float(len(vocabulary))})
