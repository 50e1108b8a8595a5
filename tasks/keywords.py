"""Keywords that problems of maths and Python are about (paper, section 3.2), from four origins that take turns.

topics    the generator names terms that have to do with a topic
entities  names of an encyclopedia that the generator says Yes to; a maths one's `source` ends with its level
mined     what Python files import, call and name (tasks/mined_keywords.py)
picked    by hand (keywords.yaml)
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from random import Random
from typing import Any

from infra.artifacts import Artifact
from infra.errors import EmptyDataset
from infra.output import Outcome, Output
from models.engine import SamplingParams
from tasks.configs.prompts import KeywordsConfig
from tasks.dropped import dropped_row, write_dropped
from tasks.evaluation_items import evaluation_topics
from tasks.generation import Ask, Writer, licence_of, open_engine
from tasks.mined_keywords import mine, seed_files
from tasks.picked_keywords import DATA, FIELDS, LICENCE, Field, picked_keywords
from tasks.prompts.calls import answer, compose
from tasks.prompts.lists import parse_list
from tasks.prompts.quality import is_about, names, stems
from tasks.prompts.sentences import words
from tasks.rows import KEYWORD, make_row, row_seed
from tasks.streams import artifacts_of

Row = dict[str, Any]
MAX_WORDS = 4


def run(
    config: KeywordsConfig,
    output: Output,
    generator: Artifact,
    topics: Artifact,
    python_files: Artifact | tuple[Artifact, ...] = (),
) -> Outcome:
    """`python_files` has a Python file in each row's text. Raises EmptyDataset when a field has no keyword left."""
    asker = None
    if config.topics or config.entities:
        asker = Asker(config, Writer(open_engine(generator, config.resources), output), generator, output.fingerprint)
    written = [*asker.under_topics(topics.rows()), *asker.among_entities()] if asker else []
    unused = asker.rejected if asker else []
    mined, skipped = mined_rows(config, artifacts_of(python_files)) if config.mined else ([], 0)
    picked = [row for field in FIELDS for row in picked_keywords(field)] if config.picked else []
    shuffled = Random(row_seed(output.fingerprint, "picked")).sample(picked, len(picked))
    targets: Mapping[Field, int] = {"python": config.python_target, "maths": config.maths_target}
    kept, counts, rejected = select([*written, *mined, *shuffled], targets)
    write_dropped(output, [*unused, *rejected])
    reasons = Counter(f"dropped:{entry['reason']}" for entry in unused) + Counter({"dropped:no_python": skipped})
    counts += reasons + Counter({"in": reasons.total()})
    for field in FIELDS:
        if not any(row["field"] == field for row in kept):
            raise EmptyDataset(f"no keyword of {field} is left: {dict(counts)}", "set keywords.picked=true")
    output.write_shard(0, kept, KEYWORD)
    found = Counter(f"{row['field']}/{row['origin']}" for row in kept)
    metrics = {name: float(count) for name, count in sorted(found.items())} | (asker.writer.metrics() if asker else {})
    licences = sorted({row["licence"] for row in kept})
    return Outcome(rows=len(kept), counts=dict(counts), metrics=metrics, result={"licences": licences})


class Asker:
    """What the generator says."""

    def __init__(self, config: KeywordsConfig, writer: Writer, generator: Artifact, fingerprint: str) -> None:
        """`fingerprint` is the stage's: it seeds which topics and names are drawn."""
        self.config, self.writer, self.fingerprint = config, writer, fingerprint
        self.generator, self.licence = generator.fingerprint, licence_of(generator)
        self.rejected: list[Row] = []

    def under_topics(self, topics: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Keywords of both fields under the same topics, in one engine call."""
        chosen = self._draw(topics, self.config.topics, "topics")
        params = SamplingParams(temperature=self.config.temperature, top_p=self.config.top_p)
        places: list[tuple[Field, Mapping[str, Any]]] = [(field, topic) for topic in chosen for field in FIELDS]
        asks = [
            compose(DATA[field]["ask"], params, f"{field}/{topic['id']}", self.config.constrain_lists,
                    topic=topic["topic"], count=self.config.per_topic)
            for field, topic in places
        ]  # fmt: skip
        rows = []
        for (field, topic), said in zip(places, answer(self.writer, asks, (0.0, 0.5)), strict=True):
            items = parse_list(said.text, said.finished)
            if not items:
                self.rejected.append(dropped_row("not_a_list", said.text, topic=topic["topic"]))
            known = {"source": "keywords/topics", "synthetic": True, "generator": self.generator,
                     "licence": self.licence}  # fmt: skip
            named = [item for item in items if is_about(item, topic["topic"])]
            self.rejected += [dropped_row("names_the_topic", item, topic=topic["topic"]) for item in named]
            rows += [keyword_row(item, field, "topics", known, [topic["id"]]) for item in items if item not in named]
        return rows

    def among_entities(self) -> list[Row]:
        """Bundled names that the generator takes for a field's; of maths ones it says where they are taught."""
        entities = self._draw(DATA["entities"], self.config.entities, "entities")
        places: list[tuple[Field, str]] = [(field, entity) for entity in entities for field in FIELDS]
        said = answer(self.writer, [self._ask(field, "classify", entity) for field, entity in places], (0.5, 0.8))
        found: list[tuple[Field, str]] = []
        for (field, entity), verdict in zip(places, said, strict=True):
            if verdict.text.startswith("Yes"):
                found.append((field, entity))
            else:
                self.rejected.append(dropped_row("of_another_field", entity, detail=field))
        maths = [entity for field, entity in found if field == "maths"]
        taught = answer(self.writer, [self._ask("maths", "level", entity) for entity in maths], (0.8, 1.0))
        levels = {entity: f"/{level.text}" for entity, level in zip(maths, taught, strict=True)}
        return [
            keyword_row(entity, field, "entities", {
                "source": f"keywords/entities{levels[entity] if field == 'maths' else ''}", "synthetic": False,
                "generator": "", "licence": LICENCE,
            })
            for field, entity in found
        ]  # fmt: skip

    def _ask(self, field: Field, call: str, entity: str) -> Ask:
        greedy = SamplingParams(temperature=0.0)
        return compose(DATA[field][call], greedy, f"{field}/{call}/{entity}", entity=entity)

    def _draw(self, things: Sequence[Any], count: int, name: str) -> list[Any]:
        return Random(row_seed(self.fingerprint, name)).sample([*things], min(count, len(things)))


def mined_rows(config: KeywordsConfig, python_files: Sequence[Artifact]) -> tuple[list[Row], int]:
    """Most frequent first, each the child of the first file that has it; and how many files are no Python."""
    origins: list[tuple[list[str], str]] = []

    def texts() -> Iterator[str]:
        for file in chain.from_iterable(files.iter_rows() for files in python_files):
            origins.append(([file["id"]], file["licence"]))
            yield file["text"]

    mined, skipped = mine(texts() if python_files else seed_files(), config.min_files)
    rows = []
    for keyword in mined:
        parents, licence = origins[keyword.first] if python_files else ([], LICENCE)
        known = {"source": "keywords/mined", "synthetic": False, "generator": "", "licence": licence}
        rows.append(keyword_row(keyword.text, "python", "mined", known, parents))
    return rows, skipped


def keyword_row(keyword: str, field: Field, origin: str, known: Mapping[str, Any], parents: Iterable[str] = ()) -> Row:
    values = {"keyword": keyword, "field": field, "origin": origin, **known}
    return make_row(KEYWORD, values, [keyword, field, origin], parents)


def select(rows: Iterable[Row], targets: Mapping[Field, int]) -> tuple[list[Row], Counter[str], list[Row]]:
    """Up to a field's target of keywords that differ in more than order, number or case, origins taking turns; counts
    by reason; what was rejected.
    """
    kept: dict[tuple[str, frozenset[str]], Row] = {}
    counts: Counter[str] = Counter()
    rejected = []
    full = Counter[str]()
    for row in in_turns(rows):
        counts["in"] += 1
        meaning = (row["field"], frozenset(stems(row["keyword"])))
        reason = _fault(row["keyword"]) or ("duplicate" if meaning in kept else "")
        if not reason and full[row["field"]] == targets[row["field"]]:
            reason = "over_target"
        if not reason:
            kept[meaning] = row
            full[row["field"]] += 1
            continue
        counts[f"dropped:{reason}"] += 1
        if reason != "over_target":
            rejected.append(dropped_row(reason, row["keyword"], row_id=row["id"], detail=row["source"]))
    counts["kept"] = len(kept)
    return [*kept.values()], counts, rejected


def in_turns(rows: Iterable[Row]) -> list[Row]:
    """One of each field and origin after the other, each in its order."""
    origins: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        origins.setdefault((row["field"], row["origin"]), []).append(row)
    return [row for row in chain.from_iterable(zip_longest(*origins.values())) if row is not None]


def _fault(keyword: str) -> str:
    if not stems(keyword):
        return "no_words"
    if len(words(keyword)) > MAX_WORDS:
        return "too_long"
    return "evaluation_topic" if names(keyword, evaluation_topics()) else ""
