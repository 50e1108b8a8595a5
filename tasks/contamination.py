"""What of a data set overlaps with an exam item: a shared run of words, the row inside the item or the item inside it.

A text too short for a run of `ngram_words` is looked for as a whole: it overlaps with an item that holds it word for
word. Of fewer than `SHORTEST` words it could stand anywhere, and overlaps only where it is all of an item's message.

Texts and runs of words that many items share are a template's wording and say nothing about one item.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.configs.mix import DeduplicateConfig
from tasks.shingles import Batch, Gram, Row, grams_of, read_batch, run_hash, runs, texts_of, words_of

SHORTEST = 4
SIEVE_BITS = 22


class ExamIndex:
    """Exam items by their runs of words. The wording of templates, shared by many keys, is left out."""

    def __init__(self, config: DeduplicateConfig, items: Iterable[Row]) -> None:
        self.config, items = config, [*items]
        self.texts: dict[str, str] = {}
        self.grams: dict[str, set[Gram]] = {}
        keys: defaultdict[Gram, set[str]] = defaultdict(set)
        text_keys: defaultdict[str, set[str]] = defaultdict(set)
        for item in items:
            messages = [words_of(text) for text in texts_of(item)]
            self.grams[item["id"]] = {gram for words in messages for gram in grams_of(words, config.ngram_words)}
            for text in (" ".join(words) for words in messages if words):
                self.texts[text] = item["id"]
                text_keys[text].add(item["key"])
            for gram in self.grams[item["id"]]:
                keys[gram].add(item["key"])
        self.texts = {text: owner for text, owner in self.texts.items() if len(text_keys[text]) < config.template_items}
        self.template = {gram for gram, found in keys.items() if len(found) >= config.template_items}
        self.owners: defaultdict[Gram, list[str]] = defaultdict(list)
        for item_id in self.grams:
            self.grams[item_id] -= self.template
            for gram in self.grams[item_id]:
                self.owners[gram].append(item_id)
        self.sizes = sorted({len(gram) for gram in self.owners})
        self.sieve = Sieve(np.fromiter(map(run_hash, self.owners), np.uint64))
        self.short = ShortRuns(config, items)

    def suspects(self, batch: Batch) -> NDArray[np.bool_]:
        """Which rows of a batch `hit` must look at; no other row has one."""
        suspect_R = np.fromiter((any(text in self.texts for text in texts) for texts in batch.texts_R), bool)
        length_W = np.bincount(batch.text_W)[batch.text_W]
        for length, hashes, inside in runs(batch.words_W, batch.text_W, self.config.ngram_words):
            if length in self.sizes:
                places = np.flatnonzero(inside)
                suspect_R[batch.row_W[places[self.sieve.holds(hashes[places])]]] = True
            places = np.flatnonzero(inside & (length_W[: len(inside)] == length))
            suspect_R[batch.row_W[places[self.short.sieve.holds(hashes[places])]]] = True
        return suspect_R

    def hit(self, row: Row) -> dict[str, Any] | None:
        """The item that a row overlaps with most, as {item_id, ngram, of_row, of_item}; None for a clean row."""
        messages = [words_of(text) for text in texts_of(row)]
        for text in map(" ".join, messages):
            if text in self.texts:
                return {"item_id": self.texts[text], "ngram": text, "of_row": 1.0, "of_item": 1.0}
        own = {gram for words in messages for gram in grams_of(words, self.config.ngram_words)} - self.template
        runs_of_sizes = {gram for words in messages for size in self.sizes for gram in grams_of(words, size)}
        shared: defaultdict[str, set[Gram]] = defaultdict(set)
        for gram in (own | runs_of_sizes) & self.owners.keys():
            for item_id in self.owners[gram]:
                shared[item_id].add(gram)
        for gram in (gram for gram in own if len(gram) < self.config.ngram_words):
            for item_id in self.short.owners(gram):
                shared[item_id].add(gram)
        hits = [self._measure(item_id, grams, own) for item_id, grams in shared.items()]
        over = [hit for hit in hits if max(hit["of_row"], hit["of_item"]) >= self.config.overlap]
        return max(over, key=lambda hit: (hit["of_item"], hit["of_row"], hit["item_id"]), default=None)

    def _measure(self, item_id: str, shared: set[Gram], own: set[Gram]) -> dict[str, Any]:
        return {
            "item_id": item_id,
            "ngram": " ".join(min(shared)),
            "of_row": len(own & shared) / max(1, len(own)),
            "of_item": len(self.grams[item_id] & shared) / max(1, len(self.grams[item_id])),
        }


class ShortRuns:
    """The items' runs of `SHORTEST` words and more, yet fewer than `ngram_words`, by their hashes; templates left out.

    I = items, H = places of such runs, N = different ones.
    """

    def __init__(self, config: DeduplicateConfig, items: Sequence[Row]) -> None:
        batch, self.ids = read_batch(items), [item["id"] for item in items]
        keys_I = np.unique([item["key"] for item in items], return_inverse=True)[1]
        parts = [(np.zeros(0, np.uint64), np.zeros(0, np.int64))]
        for length, hashes, inside in runs(batch.words_W, batch.text_W, config.ngram_words - 1):
            if length >= SHORTEST:
                parts.append((hashes[inside], batch.row_W[: len(hashes)][inside]))
        hashes_H, items_H = (np.concatenate(part) for part in zip(*parts, strict=True))
        found, numbers_H = np.unique(hashes_H, return_inverse=True)
        keys_N = np.bincount(np.unique((numbers_H << 32) | keys_I[items_H]) >> 32, minlength=len(found))
        own_H = keys_N[numbers_H] < config.template_items
        order = np.argsort(hashes_H[own_H])
        self.items, self.sieve = items_H[own_H][order], Sieve(hashes_H[own_H])

    def owners(self, run: Gram) -> set[str]:
        """Items in which a whole text stands."""
        start, end = (np.searchsorted(self.sieve.hashes, np.uint64(run_hash(run)), side) for side in ("left", "right"))
        return {self.ids[item] for item in self.items[start:end]}


class Sieve:
    """Whether a run's hash may be one of some: a bit table first, then binary search for the few it lets by."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self.hashes = np.sort(hashes)
        self.table = np.zeros(1 << SIEVE_BITS, bool)
        self.table[self._slots(self.hashes)] = True

    def holds(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        found = self.table[self._slots(hashes)]
        likely = hashes[found]
        places = np.searchsorted(self.hashes, likely)
        found[found] = self.hashes[np.minimum(places, len(self.hashes) - 1)] == likely
        return found

    def _slots(self, hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
        return (hashes >> np.uint64(64 - SIEVE_BITS)).astype(np.intp)
