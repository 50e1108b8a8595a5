"""Topics: macro topics and their subtopics from the generator, merged with a hand-picked list (paper, section 3.2)."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

import yaml

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from models.engine import SamplingParams
from tasks.configs.prompts import TopicsConfig
from tasks.dropped import dropped_row, write_dropped
from tasks.evaluation_items import evaluation_topics
from tasks.generation import Writer, licence_of, open_engine
from tasks.prompts.calls import answer, compose
from tasks.prompts.lists import parse_list
from tasks.prompts.quality import names, stems
from tasks.prompts.sentences import words
from tasks.rows import TOPIC, make_row, row_seed

DATA = yaml.safe_load((Path(__file__).parent / "topics.yaml").read_text(encoding="utf-8"))
MAX_WORDS = 5
LICENCE = "Apache-2.0"
"""Of the curated list, which is part of the project."""


@dataclass(frozen=True)
class Named:
    """A topic before it becomes a row."""

    topic: str
    macro: str
    curated: bool


def run(config: TopicsConfig, output: Output, generator: Artifact) -> Outcome:
    """The generator's topics first, then curated ones in a seeded order. Raises EmptyDataset when none is left."""
    written, metrics = written_topics(config, output, generator) if config.n_macro else ([], {})
    picked = curated_topics(row_seed(output.fingerprint, "curated")) if config.curated else []
    kept, counts, rejected = select([*written, *picked], config.target)
    write_dropped(output, rejected)
    if not kept:
        raise EmptyDataset(f"no topic is left: {dict(counts)}", "set topics.curated=true or raise topics.n_macro")
    licence = licence_of(generator)
    output.write_shard(0, [_row(named, generator, licence) for named in kept], TOPIC)
    shares = {"written": float(sum(not named.curated for named in kept)), **metrics}
    licences = {LICENCE if named.curated else licence for named in kept}
    return Outcome(rows=len(kept), counts=dict(counts), metrics=shares, result={"licences": sorted(licences)})


def written_topics(config: TopicsConfig, output: Output, generator: Artifact) -> tuple[list[Named], dict[str, float]]:
    """Macro topics, then subtopics of each."""
    writer = Writer(open_engine(generator, config.resources), output)
    macros = listed(config, writer, "macro", [{}], config.n_macro, (0.0, 0.2))[0]
    fields = [{"macro": macro} for macro in macros]
    lists = listed(config, writer, "sub", fields, config.n_sub, (0.2, 1.0))
    named = [
        Named(topic, macro, curated=False) for macro, topics in zip(macros, lists, strict=True) for topic in topics
    ]
    return named, writer.metrics()


def listed(
    config: TopicsConfig,
    writer: Writer,
    call: str,
    fields: Sequence[Mapping[str, str]],
    count: int,
    share: tuple[float, float],
) -> list[list[str]]:
    """Up to `count` items for each of `fields`, at most `per_call` in one call: later ones are told what there is."""
    params = SamplingParams(temperature=config.temperature, top_p=config.top_p)
    found: list[dict[str, None]] = [{} for _ in fields]
    rounds = ceil(count / config.per_call)
    for turn in range(rounds):
        asks = [
            compose(
                _call(call, known),
                params,
                "/".join([call, *mine.values(), str(turn)]),
                config.constrain_lists,
                count=min(config.per_call, count - len(known)),
                known=", ".join(known),
                **mine,
            )
            for mine, known in zip(fields, found, strict=True)
            if len(known) < count
        ]
        done = (
            share[0] + (share[1] - share[0]) * turn / rounds,
            share[0] + (share[1] - share[0]) * (turn + 1) / rounds,
        )
        answers = iter(answer(writer, asks, done))
        for known in found:
            if len(known) < count:
                said = next(answers)
                known.update(dict.fromkeys(parse_list(said.text, said.finished)))
    return [[*known][:count] for known in found]


def _call(name: str, known: Collection[str]) -> dict[str, Any]:
    template = DATA[name]
    return {**template, "user": template["user"] + DATA["others"]} if known else template


def curated_topics(seed: int) -> list[Named]:
    """The whole hand-picked list, shuffled."""
    picked = [Named(topic, macro, curated=True) for macro, topics in DATA["curated"].items() for topic in topics]
    return Random(seed).sample(picked, len(picked))


def select(topics: list[Named], target: int) -> tuple[list[Named], Counter[str], list[dict[str, Any]]]:
    """Up to `target` topics that differ in more than order, number or case; counts by reason; what was rejected."""
    kept: dict[frozenset[str], Named] = {}
    counts: Counter[str] = Counter({"in": len(topics)})
    rejected = []
    for named in topics:
        reason = _fault(named, kept) or ("over_target" if len(kept) == target else "")
        if reason:
            counts[f"dropped:{reason}"] += 1
            if reason != "over_target":
                rejected.append(dropped_row(reason, named.topic, topic=named.topic, detail=named.macro))
        else:
            kept[frozenset(stems(named.topic))] = named
    counts["kept"] = len(kept)
    return [*kept.values()], counts, rejected


def _fault(named: Named, kept: dict[frozenset[str], Named]) -> str:
    meaning = frozenset(stems(named.topic))
    if not meaning:
        return "no_words"
    if len(words(named.topic)) > MAX_WORDS:
        return "too_long"
    if meaning in kept or meaning == stems(named.macro):
        return "duplicate"
    return "evaluation_topic" if names(named.topic, evaluation_topics()) else ""


def _row(named: Named, generator: Artifact, licence: str) -> dict[str, Any]:
    values = {
        "topic": named.topic,
        "macro_topic": named.macro,
        "source": "topics/curated" if named.curated else "topics/written",
        "synthetic": not named.curated,
        "generator": "" if named.curated else generator.fingerprint,
        "licence": LICENCE if named.curated else licence,
    }
    return make_row(TOPIC, values, [named.topic, named.macro])
