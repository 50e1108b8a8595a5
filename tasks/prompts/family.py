"""What a prompt family is: a generator function that yields calls of the model and takes their answers.

    def write(job: Job) -> Conversation:
        answers = yield [job.ask(TEMPLATE["ask"], topic=topic["topic"]) for topic in job.topics(10)]
        return [Draft(topic, asked("…"), "draft", "question"), ...]

All families of a shard are driven together (`drive`), round by round, so that the engine's batch stays full.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

import yaml

from models.engine import SamplingParams
from tasks.configs.prompts import PromptsConfig
from tasks.dropped import dropped_row
from tasks.generation import Ask, Writer
from tasks.prompts.calls import Answer, answer, compose
from tasks.prompts.lists import is_literal, parse_list

Topic = Mapping[str, Any]
"""A row of the topics stage."""
Row = Mapping[str, Any]

FORMATS = ("paragraph", "sentence", "list", "steps", "json", "yes_no", "table", "number", "code", "call", "text")
"""How an answer looks; "text" is a whole document, as writing tasks ask for."""


@dataclass(frozen=True)
class Draft:
    """A prompt before it becomes a row."""

    topic: Topic | None
    """None where the prompt comes from no topic of the topics stage."""
    messages: Sequence[Mapping[str, str]]
    """Up to the user's turn that is to be answered."""
    source: str
    """How it was made, after the family's name: "revised", "draft", …"""
    task: str
    """What is asked for, one axis of coverage: "question", "email", "summarise", …"""
    answer_format: str = "paragraph"
    """How it is to be answered, another axis: one of FORMATS."""
    verifier: dict[str, Any] | None = None
    parents: tuple[str, ...] = ()
    """Ids of the rows besides the topic that it was made from."""
    licences: tuple[str, ...] = ()
    """Of the text that came from elsewhere."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The family's own facts: keyword, level, what of a document was cut, …"""


def asked(text: str) -> list[dict[str, str]]:
    """A conversation of one user turn."""
    return [{"role": "user", "content": text}]


Conversation = Generator[list[Ask], list[Answer], list[Draft]]
Questions = Generator[list[Ask], list[Answer], list[tuple[Topic, str]]]

Write = Callable[["Job"], Conversation]
FAMILIES: dict[str, Write] = {}
"""By name; a module of this package registers its own (tasks/write_prompts.py imports them all)."""


def register(family: str) -> Callable[[Write], Write]:
    """Make a function the writer of a family. Raises ValueError when two modules claim one name."""

    def add(write: Write) -> Write:
        if family in FAMILIES:
            raise ValueError(f"prompt family {family!r} is registered twice, by {FAMILIES[family]} and {write}")
        FAMILIES[family] = write
        return write

    return add


@dataclass
class Job:
    """One family's part of one shard."""

    family: str
    wanted: int
    """Prompts to hand in; more are passed over."""
    config: PromptsConfig
    all_topics: Sequence[Topic]
    reserved: Sequence[str]
    """Topics of the evaluation set."""
    rng: Random
    prefix: str
    """Tells this job's calls from those of other shards."""
    material: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Rows of the stage's other inputs by name: "documents" (TEXT), "openers" (PROMPT), "keywords" (KEYWORD)."""
    rejected: list[dict[str, Any]] = field(default_factory=list)
    """Entries of tasks/dropped.py."""
    _asked: int = 0

    def topics(self, count: int) -> list[Topic]:
        """`count` topics in an order of this job's own, from the start again when there are fewer."""
        shuffled = self.rng.sample([*self.all_topics], len(self.all_topics))
        return list(islice(cycle(shuffled), count))

    def drafts(self, per_call: int, wanted: int | None = None) -> int:
        """Calls that give enough drafts, some of which will be rejected."""
        return ceil((self.wanted if wanted is None else wanted) * self.config.oversample / per_call)

    def ask(self, template: Mapping[str, Any], **fields: object) -> Ask:
        """A call from a template (tasks/prompts/calls.py), with `pick` of its examples where it says so."""
        self._asked += 1
        if "pick" in template:
            template = {**template, "shots": self.rng.sample(template["shots"], template["pick"])}
        config = self.config
        params = SamplingParams(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens)
        ask_id = f"{self.prefix}/{self.family}/{self._asked}"
        return compose(template, params, ask_id, constrained=config.constrain_lists, **fields)

    def reject(self, reason: str, text: str | Sequence[Mapping[str, str]], detail: str = "") -> None:
        self.rejected.append(dropped_row(reason, text, family=self.family, detail=detail))


def template(family: str) -> dict[str, Any]:
    """The YAML file beside the family's module."""
    return yaml.safe_load((Path(__file__).parent / f"{family}.yaml").read_text(encoding="utf-8"))


def lists(job: Job, asks: list[Ask]) -> Generator[list[Ask], list[Answer], list[list[str]]]:
    """One list for each call. Where an answer is no list, a second call may turn it into YAML (paper, section 3.2).

    An item that is no literal part of the first answer is rejected.
    """
    answers = yield asks
    found = [parse_list(said.text, said.finished) for said in answers]
    if job.config.convert_lists and not all(found):
        open_places = [place for place, items in enumerate(found) if not items]
        convert = template("conversion")["convert"]
        converted = yield [job.ask(convert, text=answers[place].text) for place in open_places]
        for place, said in zip(open_places, converted, strict=True):
            found[place] = parse_list(said.text, said.finished)
    for items, said in zip(found, answers, strict=True):
        if not items:
            job.reject("not_a_list", said.text)
        for item in [item for item in items if not is_literal(item, said.text)]:
            job.reject("not_literal", item)
            items.remove(item)
    return found


def drive(jobs: Iterable[tuple[Job, Conversation]], writer: Writer) -> dict[str, list[Draft]]:
    """Run families side by side, one engine call a round, until each has handed in its drafts."""
    drafts: dict[str, list[Draft]] = {}
    waiting = [(job, conversation, next(conversation)) for job, conversation in jobs]
    left = 1.0
    while waiting:
        asks = [ask for _, _, mine in waiting for ask in mine]
        answers = iter(answer(writer, asks, (1 - left, 1 - left / 2)))
        left /= 2
        still = []
        for job, conversation, mine in waiting:
            try:
                still.append((job, conversation, conversation.send(list(islice(answers, len(mine))))))
            except StopIteration as ended:
                drafts[job.family] = ended.value
        waiting = still
    return drafts
