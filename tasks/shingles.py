"""The words of rows of any schema, and hashes of their runs of words, for many rows at once.

R = rows of a batch, W = their words one after another.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]
Gram = tuple[str, ...]
Hashes = NDArray[np.uint64]

WORD = re.compile(r"\w+|[-+*/=<>%^]")
"""Operators count as words: 17 + 25 is not 17 - 25."""
OPERATOR = re.compile(r"[-+*/=<>%^]")
SPACED = str.maketrans({code: chr(code).lower() if WORD.fullmatch(chr(code)) else " " for code in range(128)})
"""Of ASCII text without operators this and `split` give the words, in half the time."""
CONVERSATIONS = ("messages", "prompt", "chosen", "rejected")
PLAIN = ("response", "text")
DIGEST_BYTES = 16
REMEMBERED_WORDS = 1 << 18
ODD = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that multiplying by it modulo 2^64 loses nothing."""


def texts_of(row: Row) -> list[str]:
    """Every text of a row of any schema: its conversations' messages, its response, its plain text."""
    spoken = [message["content"] for name in CONVERSATIONS for message in row.get(name) or ()]
    return spoken + [row[name] for name in PLAIN if row.get(name)]


def messages_of(row: Row) -> list[dict[str, str]]:
    """A row of any schema as messages, to look at."""
    said = [message for name in CONVERSATIONS for message in row.get(name) or ()]
    return said + [{"role": "assistant", "content": row[name]} for name in PLAIN if row.get(name)]


def words_of(text: str) -> list[str]:
    if text.isascii() and not OPERATOR.search(text):
        return text.translate(SPACED).split()
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


def grams_of(words: Sequence[str], size: int) -> set[Gram]:
    """Runs of `size` words; a shorter text is one run."""
    if not words:
        return set()
    size = min(size, len(words))
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def jaccard(one: set[Any], other: set[Any]) -> float:
    shared = len(one & other)
    return shared / max(1, len(one) + len(other) - shared)


class WordHashes(dict[str, int]):
    """64-bit hashes of words, the same in every process; forgets all once it holds `REMEMBERED_WORDS`."""

    def __missing__(self, word: str) -> int:
        if len(self) >= REMEMBERED_WORDS:
            self.clear()
        value = self[word] = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
        return value


word_hash = WordHashes().__getitem__


@dataclass(frozen=True)
class Batch:
    """Rows as words: each row's texts with single spaces between their words, and all words as hashes."""

    texts_R: list[list[str]]
    words_W: Hashes
    text_W: NDArray[np.int64]
    """Number of the text, counted over the batch, that a word stands in."""
    row_W: NDArray[np.int64]

    @property
    def rows(self) -> int:
        return len(self.texts_R)

    def digests(self) -> bytes:
        """DIGEST_BYTES for each row; equal words give equal ones."""
        joined = (" ".join(filter(None, texts)) for texts in self.texts_R)
        return b"".join(blake2b(text.encode(), digest_size=DIGEST_BYTES).digest() for text in joined)

    def shingles(self, size: int) -> tuple[Hashes, NDArray[np.int64]]:
        """Hashes of every row's runs of `size` words, row after row, and where each row's end; with repetitions.

        A shorter row is one run.
        """
        words_R = np.bincount(self.row_W, minlength=self.rows)
        found_W, wanted_W = np.zeros_like(self.words_W), np.zeros(len(self.words_W), bool)
        for length, hashes, inside in runs(self.words_W, self.row_W, size):
            if length < size:
                inside &= words_R[self.row_W[: len(hashes)]] == length
            np.copyto(found_W[: len(hashes)], hashes, where=inside)
            wanted_W[: len(hashes)] |= inside
        ends_R = np.cumsum(np.bincount(self.row_W[wanted_W], minlength=self.rows))
        return mixed(found_W[wanted_W]), ends_R


def read_batch(rows: Sequence[Row]) -> Batch:
    said = [[words_of(text) for text in texts_of(row)] for row in rows]
    texts = [words for row in said for words in row]
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    text_row = np.repeat(np.arange(len(rows)), [len(row) for row in said])
    hashes = np.fromiter(map(word_hash, chain.from_iterable(texts)), np.uint64, int(sizes.sum()))
    return Batch(
        texts_R=[[" ".join(words) for words in row] for row in said],
        words_W=hashes,
        text_W=np.repeat(np.arange(len(texts)), sizes),
        row_W=np.repeat(text_row, sizes),
    )


def runs(words_W: Hashes, owner_W: NDArray[np.int64], longest: int) -> Iterator[tuple[int, Hashes, NDArray[np.bool_]]]:
    """For each length up to `longest`: the hash of the run that starts at each word, and whether one owner has it."""
    hashes = np.zeros_like(words_W)
    for length in range(1, min(longest, len(words_W)) + 1):
        starts = len(words_W) - length + 1
        hashes = hashes[:starts] * ODD + words_W[length - 1 :]
        yield length, hashes, owner_W[:starts] == owner_W[length - 1 :]


def run_hash(words: Sequence[str]) -> int:
    """The hash that `runs` gives a run of these words."""
    value = 0
    for word in words:
        value = (value * int(ODD) + word_hash(word)) % (1 << 64)
    return value


def mixed(hashes: Hashes) -> Hashes:
    """Each bit of the result depends on every bit (SplitMix64's finaliser)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))
