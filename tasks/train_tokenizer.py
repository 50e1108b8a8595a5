"""A tokenizer learnt from documents: SentencePiece's BPE, written as a Hugging Face tokenizer (paper, section 2.1).

    text     fn_7(x)  # 東京 👍          nothing is normalised: every space and line end comes back as it was
    pieces   fn _ 7 ( x ) ▁▁ # ▁ 東 京 ▁ <0xF0> <0x9F> <0x91> <0x8D>

SentencePiece finds the pieces and their order; what a text becomes is then decided by merges that follow from them,
so that no other library is needed where the tokenizer is used. SentencePiece's own file is kept beside it.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers

from infra.errors import EmptyDataset, InputError
from infra.output import Outcome, Output
from models.chat import CHATML_TEMPLATE
from models.gguf_tokenizer import merges_from_scores
from models.tokenizer import Tokenizer
from tasks.configs.pretraining_data import TrainTokenizerConfig
from tasks.rows import row_seed
from tasks.streams import Source, rows_in, stream

UNKNOWN = "<unk>"
SENTENCEPIECE_FILE = "tokenizer.model"
LONGEST_DOCUMENT = 2**30
"""Bytes; SentencePiece leaves longer ones out."""
TEMPLATES = {"chatml": CHATML_TEMPLATE, "none": ""}


def run(config: TrainTokenizerConfig, output: Output, texts: Source) -> Outcome:
    """A tokenizer folder out of TEXT rows. Raises InputError where the vocabulary does not fit the documents."""
    documents = Documents(config, texts)
    pieces = learn_pieces(config, documents)
    tokenizer = tokenizer_of(pieces, config)
    folder = output.scratch_folder()
    tokenizer.save(folder)
    Path(folder, SENTENCEPIECE_FILE).write_bytes(pieces)
    output.write_folder(folder)
    return Outcome(
        metrics={"vocabulary": tokenizer.vocab_size, "documents": documents.used},
        result={"licences": sorted(documents.licences)},
    )


class Documents:
    """The texts to learn from, which are read once; of too many, a sample that seed and ids decide."""

    def __init__(self, config: TrainTokenizerConfig, texts: Source) -> None:
        self.texts = texts
        self.seed = str(config.seed)
        total = rows_in(texts)
        self.kept_below = 2**63 if total <= config.max_documents else 2**63 * config.max_documents // total
        self.used = 0
        self.licences: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        for row in stream(self.texts):
            if row["text"] and row_seed(self.seed, row["id"]) < self.kept_below:
                self.used += 1
                self.licences |= {row["licence"]} if row["licence"] else set()
                yield row["text"]


def learn_pieces(config: TrainTokenizerConfig, documents: Documents) -> bytes:
    """SentencePiece's model file."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(documents), model_writer=model, model_type="bpe", vocab_size=config.vocabulary,
            user_defined_symbols=[config.end_of_text, *config.special_tokens], unk_piece=UNKNOWN, unk_id=0, bos_id=-1,
            eos_id=-1, pad_id=-1, byte_fallback=True, split_digits=config.split_digits,
            character_coverage=config.character_coverage, normalization_rule_name="identity",
            remove_extra_whitespaces=False, add_dummy_prefix=False, allow_whitespace_only_pieces=True,
            max_sentence_length=LONGEST_DOCUMENT, minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        if not documents.used:
            raise EmptyDataset("no documents to learn a tokenizer from", "give rows with text") from error
        reason = str(error).split("] ")[-1]
        raise InputError(
            f"no vocabulary of {config.vocabulary} tokens out of {documents.used} documents: {reason}",
            "change vocabulary, lower character_coverage, or give more documents",
        ) from error
    return model.getvalue()


def tokenizer_of(pieces: bytes, config: TrainTokenizerConfig) -> Tokenizer:
    """The tokenizer that gives SentencePiece's own ids, without it."""
    found = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    names = [found.id_to_piece(number) for number in range(found.vocab_size())]
    special = [config.end_of_text, *config.special_tokens]
    merged = [
        number
        for number, name in enumerate(names)
        if name not in special and not found.is_byte(number) and not found.is_unknown(number)
    ]
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab={name: number for number, name in enumerate(names)},
            merges=merges_from_scores([names[n] for n in merged], [found.get_score(n) for n in merged]),
            unk_token=UNKNOWN,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    end = names.index(config.end_of_text)
    return Tokenizer(backend, TEMPLATES[config.chat_template], eos_id=end, pad_id=end)
