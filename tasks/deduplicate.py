"""Clean-up of prompts, answers or dialogues: equal rows, near-duplicates, and whatever overlaps with an exam item.

Near-duplicates are found by MinHash over word shingles and confirmed by their exact Jaccard similarity; the first of
them stays. Contamination is a shared run of words, in either direction: the row inside an item, or an item inside the
row. Runs of words that many items share are a template's wording and say nothing about one item.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from rensa import RMinHash, RMinHashLSH  # pyright: ignore[reportAttributeAccessIssue] (compiled, no stubs)

from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError
from infra.output import Outcome, Output
from tasks.configs.mix import DeduplicateConfig

Row = Mapping[str, Any]
Gram = tuple[str, ...]

WORD = re.compile(r"\w+|[-+*/=<>%^]")
"""Operators count as words: 17 + 25 is not 17 - 25."""
CONVERSATIONS = ("messages", "prompt", "chosen", "rejected")
PLAIN = ("response", "text")
REMEDIES = {
    "equal": "ask for more topics or a higher temperature",
    "near_duplicate": "raise deduplicate.similarity, or ask for more topics",
    "contaminated": "raise deduplicate.overlap or deduplicate.ngram_words, or change the topics",
    "no_words": "look at the stage before: its texts are empty",
}


def run(
    config: DeduplicateConfig,
    output: Output,
    rows: Artifact | tuple[Artifact, ...],
    evaluation_set: Artifact | tuple[Artifact, ...],
) -> Outcome:
    """Rows of any one schema in, the clean ones out, unchanged. Raises EmptyDataset when none is left."""
    found, schema = read_all(rows if isinstance(rows, tuple) else (rows,))
    items, _ = read_all(evaluation_set if isinstance(evaluation_set, tuple) else (evaluation_set,))
    kept, counts = drop_duplicates(config, found)
    kept, hits = drop_contaminated(config, kept, items)
    counts["contaminated"] = len(hits)
    counts = {f"dropped:{reason}": count for reason, count in counts.items() if count}
    output.progress(len(found), len(found), "rows")
    if not kept:
        raise empty(len(found), counts)
    for shard, start in enumerate(range(0, len(kept), config.shard_rows)):
        output.write_shard(shard, kept[start : start + config.shard_rows], schema)
    output.write_json("hits.json", hits)
    counts = {"in": len(found), "kept": len(kept), **counts}
    return Outcome(rows=len(kept), counts=counts, metrics={"kept_share": len(kept) / len(found)})


def empty(total: int, counts: Mapping[str, int]) -> EmptyDataset:
    """The error that names what was lost where, and the setting that lost most."""
    lost = ", ".join(f"{count} {reason.removeprefix('dropped:')}" for reason, count in counts.items())
    worst = max(counts, key=lambda reason: counts[reason], default="")
    remedy = REMEDIES.get(worst.removeprefix("dropped:"), "look at the stage before: it made no rows")
    return EmptyDataset(f"no row is left of {total}: {lost or 'none came in'}", remedy)


def read_all(sources: Sequence[Artifact]) -> tuple[list[dict[str, Any]], pa.Schema]:
    """Rows of all sources in order, and their schema. Raises InputError when the schemas differ."""
    tables = [source.table() for source in sources]
    for source, table in zip(sources, tables, strict=True):
        if not table.schema.equals(tables[0].schema):
            raise InputError(
                f"rows of different schemas: {sources[0].uri} has {tables[0].schema.names}, "
                f"{source.uri} {table.schema.names}",
                "clean each kind of rows in a stage of its own",
            )
    return [row for table in tables for row in table.to_pylist()], tables[0].schema


def texts_of(row: Row) -> list[str]:
    """Every text of a row of any schema: its conversations' messages, its response, its plain text."""
    spoken = [message["content"] for name in CONVERSATIONS for message in row.get(name) or ()]
    return spoken + [row[name] for name in PLAIN if row.get(name)]


def words_of(text: str) -> list[str]:
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


def grams_of(words: Sequence[str], size: int) -> set[Gram]:
    """Runs of `size` words; a shorter text is one run."""
    if not words:
        return set()
    size = min(size, len(words))
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def drop_duplicates(config: DeduplicateConfig, rows: Sequence[Row]) -> tuple[list[Row], Counter[str]]:
    """The first of each group of equal or similar rows, in order, with the counts of the dropped by reason."""
    index = NearDuplicates(config)
    seen: set[Gram] = set()
    kept: list[Row] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        words = tuple(word for text in texts_of(row) for word in words_of(text))
        if not words:
            dropped["no_words"] += 1
        elif words in seen:
            dropped["equal"] += 1
        elif config.similarity < 1 and index.has_similar(words):
            dropped["near_duplicate"] += 1
        else:
            kept.append(row)
            index.add(words)
        seen.add(words)
    return kept, dropped


class NearDuplicates:
    """Texts kept so far. MinHash finds candidates at a lower threshold, exact similarity decides."""

    def __init__(self, config: DeduplicateConfig) -> None:
        self.config = config
        self.bands = bands_for(config.similarity, config.permutations)
        self.lsh = RMinHashLSH(config.similarity, config.permutations, self.bands)
        self.shingles: list[set[Gram]] = []

    def _digest(self, shingles: Iterable[Gram]) -> RMinHash:
        digest = RMinHash(self.config.permutations, self.config.seed)
        digest.update([" ".join(gram) for gram in sorted(shingles)])
        return digest

    def has_similar(self, words: Sequence[str]) -> bool:
        shingles = grams_of(words, self.config.shingle_words)
        candidates = self.lsh.query(self._digest(shingles))
        return any(jaccard(shingles, self.shingles[key]) >= self.config.similarity for key in candidates)

    def add(self, words: Sequence[str]) -> None:
        shingles = grams_of(words, self.config.shingle_words)
        self.lsh.insert(len(self.shingles), self._digest(shingles))
        self.shingles.append(shingles)


def bands_for(similarity: float, permutations: int) -> int:
    """Fewest bands that still find a pair of exactly this similarity with a chance of 99 %.

    Bands of r hashes each find a pair of similarity s with 1 - (1 - s^r)^bands; fewer bands mean fewer comparisons.
    """
    divisors = [bands for bands in range(1, permutations + 1) if permutations % bands == 0]
    sure = (bands for bands in divisors if 1 - (1 - similarity ** (permutations // bands)) ** bands >= 0.99)
    return next(sure, permutations)


def jaccard(one: set[Gram], other: set[Gram]) -> float:
    return len(one & other) / max(1, len(one | other))


def drop_contaminated(
    config: DeduplicateConfig, rows: Sequence[Row], items: Sequence[Row]
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Rows without overlap with an exam item, and a hit for each of the others with the words that they share."""
    exam = ExamIndex(config, items)
    kept, hits = [], []
    for row in rows:
        hit = exam.hit([words_of(text) for text in texts_of(row)])
        if hit is None:
            kept.append(row)
        else:
            hits.append({"row_id": row["id"], **hit})
    return kept, hits


class ExamIndex:
    """Exam items by their runs of words. The wording of templates, shared by many keys, is left out."""

    def __init__(self, config: DeduplicateConfig, items: Sequence[Row]) -> None:
        self.config = config
        self.texts: dict[Gram, str] = {}
        self.grams: dict[str, set[Gram]] = {}
        keys: defaultdict[Gram, set[str]] = defaultdict(set)
        for item in items:
            messages = [words_of(text) for text in texts_of(item)]
            self.grams[item["id"]] = {gram for words in messages for gram in grams_of(words, config.ngram_words)}
            self.texts |= {tuple(words): item["id"] for words in messages if words}
            for gram in self.grams[item["id"]]:
                keys[gram].add(item["key"])
        self.template = {gram for gram, found in keys.items() if len(found) >= config.template_items}
        self.owners: defaultdict[Gram, list[str]] = defaultdict(list)
        for item_id in self.grams:
            self.grams[item_id] -= self.template
            for gram in self.grams[item_id]:
                self.owners[gram].append(item_id)
        self.sizes = sorted({len(gram) for gram in self.owners})

    def hit(self, messages: Sequence[Sequence[str]]) -> dict[str, Any] | None:
        """The item that a row overlaps with most, as {item_id, ngram, of_row, of_item}; None for a clean row."""
        for words in messages:
            if tuple(words) in self.texts:
                return {"item_id": self.texts[tuple(words)], "ngram": " ".join(words), "of_row": 1.0, "of_item": 1.0}
        own = {gram for words in messages for gram in grams_of(words, self.config.ngram_words)} - self.template
        runs = own | {gram for words in messages for size in self.sizes for gram in grams_of(words, size)}
        shared: defaultdict[str, list[Gram]] = defaultdict(list)
        for gram in runs & self.owners.keys():
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
