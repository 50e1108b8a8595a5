"""Prompts of every family over the topics: the generator's own words, filtered, verifiable where there is truth."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from tasks.configs.prompts import PromptsConfig
from tasks.evaluation_items import evaluation_topics
from tasks.generation import Writer, licence_of, open_engine, write_shards
from tasks.prompts import instruction, maths, open_qa, writing
from tasks.prompts.family import Conversation, Draft, Job, drive
from tasks.rows import PROMPT, make_row, row_seed

FAMILIES: dict[str, Callable[[Job], Conversation]] = {
    "open_qa": open_qa.write,
    "writing": writing.write,
    "maths": maths.write,
    "instruction": instruction.write,
}
REJECTED = "rejected.json"
KEPT = "revision_"
"""Reasons that start so cost a revision, not the prompt."""
Slot = tuple[int, str]
"""A wanted prompt: its number and its family."""


def run(config: PromptsConfig, output: Output, generator: Artifact, topics: Artifact) -> Outcome:
    """Raises EmptyDataset, with the counts by reason, when a family ends without a prompt."""
    writer = Writer(open_engine(generator, config.resources), output)
    maker = ShardMaker(config, output, writer, generator, topics.rows())
    slots = spread(config.families)
    write_shards(output, writer, slots, config.shard_rows, PROMPT, maker.rows)
    rejected = [entry for shard in sorted(maker.rejected, key=int) for entry in maker.rejected[shard]]
    output.write_json(REJECTED, rejected)
    shards = range(ceil(len(slots) / config.shard_rows))
    kept = Counter(row["family"] for shard in shards for row in output.read_shard(shard))
    refuse_empty(config, kept, rejected)
    dropped = Counter(f"dropped:{entry['reason']}" for entry in rejected if not entry["reason"].startswith(KEPT))
    return Outcome(
        rows=kept.total(),
        counts={"in": kept.total() + dropped.total(), "kept": kept.total(), **dropped},
        metrics={f"kept_{family}": float(kept[family]) for family in config.families} | writer.metrics(),
        result={"licences": [maker.licence]},
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def spread(families: Mapping[str, int]) -> list[Slot]:
    """Every family's prompts wanted, mixed evenly, so that each shard has its share of each."""
    places = [((number + 0.5) / count, family) for family, count in families.items() for number in range(count)]
    return [(number, family) for number, (_, family) in enumerate(sorted(places))]


def refuse_empty(config: PromptsConfig, kept: Counter[str], rejected: Sequence[Mapping[str, str]]) -> None:
    for family in config.families:
        if not kept[family]:
            reasons = Counter(entry["reason"] for entry in rejected if entry["family"] == family)
            raise EmptyDataset(
                f"prompt family {family!r} has no prompt left; rejected: {dict(reasons)}",
                f"raise prompts.oversample (now {config.oversample}), lower prompts.temperature (now "
                f"{config.temperature}), leave {family} out of prompts.families, or take another generator",
            )


class ShardMaker:
    """Makes the rows of a shard, and remembers what it rejected, over restarts too."""

    def __init__(
        self, config: PromptsConfig, output: Output, writer: Writer, generator: Artifact, topics: list[dict[str, Any]]
    ) -> None:
        self.config, self.output, self.writer, self.topics = config, output, writer, topics
        self.generator, self.licence = generator.fingerprint, licence_of(generator)
        found = output.last_checkpoint()
        self.rejected: dict[str, list[dict[str, str]]] = json.loads((found[1] / REJECTED).read_text()) if found else {}

    def rows(self, slots: Sequence[Slot]) -> list[dict[str, Any]]:
        """All families of the shard side by side; duplicates within it and drafts beyond what was wanted left out."""
        number = slots[0][0] // self.config.shard_rows
        wanted = Counter(family for _, family in slots)
        jobs = [self._job(number, family, wanted[family]) for family in self.config.families if wanted[family]]
        drafts = drive([(job, FAMILIES[job.family](job)) for job in jobs], self.writer)
        rows = [self._row(job.family, draft) for job in jobs for draft in drafts[job.family][: job.wanted]]
        self.rejected[str(number)] = [entry for job in jobs for entry in job.rejected]
        text = json.dumps(self.rejected, ensure_ascii=False)
        self.output.save_checkpoint(number + 1, lambda folder: _write(folder / REJECTED, text))
        return [*{row["id"]: row for row in rows}.values()]

    def _job(self, shard: int, family: str, wanted: int) -> Job:
        rng = Random(row_seed(self.output.fingerprint, f"{shard}/{family}"))
        return Job(family, wanted, self.config, self.topics, evaluation_topics(), rng, prefix=str(shard))

    def _row(self, family: str, draft: Draft) -> dict[str, Any]:
        messages = [{"role": "user", "content": draft.text}]
        values = {
            "family": family,
            "topic": draft.topic["topic"],
            "messages": messages,
            "verifier": draft.verifier,
            "source": f"{family}/{draft.source}",
            "synthetic": True,
            "generator": self.generator,
            "licence": self.licence,
        }
        return make_row(PROMPT, values, [family, messages, draft.verifier], [draft.topic["id"]])
