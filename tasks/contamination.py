"""What of a data set overlaps with an exam item: a shared run of words, the row inside the item or the item inside it.

Runs of words that many items share are a template's wording and say nothing about one item.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.configs.mix import DeduplicateConfig
from tasks.shingles import Batch, Gram, Row, grams_of, run_hash, runs, texts_of, words_of

SIEVE_BITS = 22


class ExamIndex:
    """Exam items by their runs of words. The wording of templates, shared by many keys, is left out."""

    def __init__(self, config: DeduplicateConfig, items: Iterable[Row]) -> None:
        self.config = config
        self.texts: dict[str, str] = {}
        self.grams: dict[str, set[Gram]] = {}
        keys: defaultdict[Gram, set[str]] = defaultdict(set)
        for item in items:
            messages = [words_of(text) for text in texts_of(item)]
            self.grams[item["id"]] = {gram for words in messages for gram in grams_of(words, config.ngram_words)}
            self.texts |= {" ".join(words): item["id"] for words in messages if words}
            for gram in self.grams[item["id"]]:
                keys[gram].add(item["key"])
        self.template = {gram for gram, found in keys.items() if len(found) >= config.template_items}
        self.owners: defaultdict[Gram, list[str]] = defaultdict(list)
        for item_id in self.grams:
            self.grams[item_id] -= self.template
            for gram in self.grams[item_id]:
                self.owners[gram].append(item_id)
        self.sizes = sorted({len(gram) for gram in self.owners})
        self.sieve = Sieve(self.owners)

    def suspects(self, batch: Batch) -> NDArray[np.bool_]:
        """Which rows of a batch `hit` must look at; no other row has one."""
        suspect_R = np.fromiter((any(text in self.texts for text in texts) for texts in batch.texts_R), bool)
        for length, hashes, inside in runs(batch.words_W, batch.text_W, max(self.sizes, default=0)):
            if length in self.sizes:
                places = np.flatnonzero(inside)
                suspect_R[batch.row_W[places[self.sieve.holds(hashes[places])]]] = True
        return suspect_R

    def hit(self, row: Row) -> dict[str, Any] | None:
        """The item that a row overlaps with most, as {item_id, ngram, of_row, of_item}; None for a clean row."""
        messages = [words_of(text) for text in texts_of(row)]
        for text in map(" ".join, messages):
            if text in self.texts:
                return {"item_id": self.texts[text], "ngram": text, "of_row": 1.0, "of_item": 1.0}
        own = {gram for words in messages for gram in grams_of(words, self.config.ngram_words)} - self.template
        runs_of_sizes = {gram for words in messages for size in self.sizes for gram in grams_of(words, size)}
        shared: defaultdict[str, list[Gram]] = defaultdict(list)
        for gram in (own | runs_of_sizes) & self.owners.keys():
            for item_id in self.owners[gram]:
                shared[item_id].append(gram)
        hits = [self._measure(item_id, grams, own) for item_id, grams in shared.items()]
        over = [hit for hit in hits if max(hit["of_row"], hit["of_item"]) >= self.config.overlap]
        return max(over, key=lambda hit: (hit["of_item"], hit["of_row"], hit["item_id"]), default=None)

    def _measure(self, item_id: str, shared: Sequence[Gram], own: set[Gram]) -> dict[str, Any]:
        return {
            "item_id": item_id,
            "ngram": " ".join(min(shared)),
            "of_row": len(own.intersection(shared)) / max(1, len(own)),
            "of_item": len(shared) / len(self.grams[item_id]),
        }


class Sieve:
    """Whether a run's hash may be one of some grams': a bit table first, then binary search for the few it lets by."""

    def __init__(self, grams: Iterable[Gram]) -> None:
        self.hashes = np.sort(np.fromiter(map(run_hash, grams), np.uint64))
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
