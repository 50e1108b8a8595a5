"""Prompts of every family over the topics: the generator's own words, filtered, verifiable where there is truth."""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import nsmallest
from itertools import chain, islice
from math import ceil
from random import Random
from typing import Any

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from tasks import prompts
from tasks.configs.prompts import PromptsConfig
from tasks.coverage import coverage_of
from tasks.diversity import Diversity
from tasks.dropped import write_dropped
from tasks.evaluation_items import evaluation_topics
from tasks.generation import Writer, licence_of, open_engine, write_shards
from tasks.prompts.family import FAMILIES, Draft, Job, drive
from tasks.rows import PROMPT, canonical, make_row, row_seed
from tasks.selection import joined_licence
from tasks.streams import Source, stream
from tasks.tallies import Tallies, told

for _module in pkgutil.iter_modules(prompts.__path__):
    importlib.import_module(f"{prompts.__name__}.{_module.name}")

KEPT = "revision_"
"""Reasons that start so cost a revision, not the prompt."""
MATERIAL = 20
"""Rows of documents, openers and keywords to draw from, for each prompt wanted."""
FACTS = ("family", "task", "topic", "answer_format", "licence")
Slot = tuple[int, str]
"""A wanted prompt: its number and its family."""


def run(config: PromptsConfig, output: Output, generator: Artifact, topics: Artifact, **material: Source) -> Outcome:
    """`material` are the other inputs by name (tasks/prompts/family.py, Job.material).

    Raises EmptyDataset, with the counts by reason, when a family ends without a prompt.
    """
    writer = Writer(open_engine(generator, config.resources), output)
    most = MATERIAL * sum(config.families.values())
    given = {name: drawn(found, most, output.fingerprint) for name, found in material.items()}
    maker = ShardMaker(config, output, writer, generator, topics.rows(), given)
    slots = spread(config.families)
    write_shards(output, writer, slots, config.shard_rows, PROMPT, maker.rows)
    write_dropped(output, maker.tallies.dropped())
    rejected = maker.tallies.total()
    facts, diversity = look_over(output, ceil(len(slots) / config.shard_rows))
    kept = Counter(row["family"] for row in facts)
    refuse_empty(config, kept, rejected)
    dropped: Counter[str] = Counter()
    for (_, reason), count in rejected_by(rejected).items():
        if not reason.startswith(KEPT):
            dropped[f"dropped:{reason}"] += count
    return Outcome(
        rows=kept.total(),
        counts={"in": kept.total() + dropped.total(), "kept": kept.total(), **dropped},
        metrics={f"kept_{family}": float(kept[family]) for family in config.families} | diversity | writer.metrics(),
        result={
            "licences": sorted({row["licence"] for row in facts}),
            "coverage": coverage_of(facts, config.families, config.answer_formats),
        },
    )


def drawn(source: Source, most: int, seed: str) -> list[dict[str, Any]]:
    """The rows in order; of more than `most` that many, drawn by their ids."""
    rows = stream(source)
    first = [*islice(rows, most)]
    if (beyond := next(rows, None)) is None:
        return first
    return nsmallest(most, chain(first, [beyond], rows), key=lambda row: (row_seed(seed, row["id"]), row["id"]))


def look_over(output: Output, shards: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """What coverage counts of every row, and how different the rows are; their texts are not held together."""
    diversity, facts = Diversity(), []
    for shard in range(shards):
        for row in output.read_shard(shard):
            diversity.add(row)
            facts.append({name: row[name] for name in FACTS})
    return facts, diversity.metrics()


def spread(families: Mapping[str, int]) -> list[Slot]:
    """Every family's prompts wanted, mixed evenly, so that each shard has its share of each."""
    places = [((number + 0.5) / count, family) for family, count in families.items() for number in range(count)]
    return [(number, family) for number, (_, family) in enumerate(sorted(places))]


def rejected_by(counts: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """By family and reason, from tallies of "family|reason"."""
    return {(family, reason): count for name, count in counts.items() for family, reason in [name.split("|")]}


def refuse_empty(config: PromptsConfig, kept: Counter[str], rejected: Mapping[str, int]) -> None:
    for family in config.families:
        if not kept[family]:
            reasons = {reason: count for (of, reason), count in rejected_by(rejected).items() if of == family}
            raise EmptyDataset(
                f"prompt family {family!r} has no prompt left; rejected: {told(reasons) or 'none'}",
                f"raise prompts.oversample (now {config.oversample}), lower prompts.temperature (now "
                f"{config.temperature}), leave {family} out of prompts.families, or take another generator",
            )


class ShardMaker:
    """Makes the rows of a shard, and remembers what it rejected, over restarts too."""

    def __init__(
        self,
        config: PromptsConfig,
        output: Output,
        writer: Writer,
        generator: Artifact,
        topics: list[dict[str, Any]],
        material: Mapping[str, Sequence[dict[str, Any]]],
    ) -> None:
        self.config, self.output, self.writer, self.topics = config, output, writer, topics
        self.material = material
        self.generator, self.licence = generator.fingerprint, licence_of(generator)
        self.tallies = Tallies(output)

    def rows(self, slots: Sequence[Slot]) -> list[dict[str, Any]]:
        """All families of the shard side by side; duplicates within it and drafts beyond what was wanted left out."""
        number = slots[0][0] // self.config.shard_rows
        wanted = Counter(family for _, family in slots)
        jobs = [self._job(number, family, wanted[family]) for family in self.config.families if wanted[family]]
        drafts = drive([(job, FAMILIES[job.family](job)) for job in jobs], self.writer)
        rows = [self._row(job.family, draft) for job in jobs for draft in drafts[job.family][: job.wanted]]
        rejected = [entry for job in jobs for entry in job.rejected]
        self.tallies.put(number, Counter(f"{entry['family']}|{entry['reason']}" for entry in rejected), rejected)
        return [*{row["id"]: row for row in rows}.values()]

    def _job(self, shard: int, family: str, wanted: int) -> Job:
        rng = Random(row_seed(self.output.fingerprint, f"{shard}/{family}"))
        return Job(family, wanted, self.config, self.topics, evaluation_topics(), rng, str(shard), self.material)

    def _row(self, family: str, draft: Draft) -> dict[str, Any]:
        messages = [*draft.messages]
        topic = draft.topic
        parents = [*([topic["id"]] if topic else []), *draft.parents]
        values = {
            "family": family,
            "topic": topic["topic"] if topic else "",
            "task": draft.task,
            "answer_format": draft.answer_format,
            "messages": messages,
            "verifier": draft.verifier,
            "side": "",
            "unsafe": False,
            "details": canonical(draft.details),
            "source": f"{family}/{draft.source}",
            "synthetic": True,
            "generator": self.generator,
            "licence": joined_licence([self.licence, *draft.licences]),
        }
        return make_row(PROMPT, values, [family, messages, draft.verifier], parents)
