"""Questions about tables (after WikiTableQuestions and FinQA; paper, section 3.2.5): code fills the table in, asks, and
computes the answer; the generator writes what the user says before the question.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tasks.judges.ground_truth import verifier
from tasks.judges.verifiers.number import final_number
from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft, Job, asked, register, template
from tasks.prompts.quality import copies, flaw, names, stems
from tasks.prompts.sentences import sentences

TEMPLATE = template("table_qa")
Kind = Mapping[str, Any]
TABLES: list[Kind] = TEMPLATE["tables"]


@dataclass(frozen=True)
class Table:
    """One filled in: the names of its rows, and the other columns' values by column."""

    kind: Kind
    rows: list[str]
    columns: dict[str, list[Any]]

    @property
    def header(self) -> list[str]:
        return [self.kind["rows"]["column"], *self.columns]

    @property
    def lines(self) -> list[list[str]]:
        return [[row, *map(str, values)] for row, *values in zip(self.rows, *self.columns.values(), strict=True)]


@dataclass(frozen=True)
class Question:
    text: str
    operation: str
    answers: str
    """"number", "name" or "value"."""
    check: dict[str, Any]


@register("table_qa")
def write(job: Job) -> Conversation:
    """Operations take turns, so that each has its share."""
    tables = [fill(job.rng.choice(TABLES), job.rng) for _ in range(job.wanted)]
    turns = [*OPERATIONS]
    questions = [OPERATIONS[turns[number % len(turns)]](table, job.rng) for number, table in enumerate(tables)]
    scene = TEMPLATE["scene"]
    answers = yield [
        job.ask(scene, title=table.kind["title"], question=question.text, opening=job.rng.choice(scene["openings"]))
        for table, question in zip(tables, questions, strict=True)
    ]
    drafts = []
    for table, question, answer in zip(tables, questions, answers, strict=True):
        said = _first(answer)
        if fault := _fault(said, table, question, job):
            job.reject(f"revision_{fault}", answer.text, question.text)
        drafts.append(_draft(job, table, question, "" if fault else said))
    return drafts


def fill(kind: Kind, rng: Random) -> Table:
    """No number stands in a column twice, so that the largest and the smallest are always one row's."""
    count = rng.randint(TEMPLATE["least_rows"], TEMPLATE["most_rows"])
    rows = rng.sample(kind["rows"]["names"], count)
    group = [rng.choice(kind["group"]["values"]) for _ in rows]
    numbers = {one["column"]: rng.sample(range(one["from"], one["to"] + 1), count) for one in kind["numbers"]}
    return Table(kind, rows, {kind["group"]["column"]: group, **numbers})


def look_up(table: Table, rng: Random) -> Question:
    row, one = rng.randrange(len(table.rows)), rng.choice(table.kind["numbers"])
    text = one["lookup"].format(row=table.rows[row])
    return Question(text, "lookup", "number", _number(table.columns[one["column"]][row]))


def look_up_group(table: Table, rng: Random) -> Question:
    group, row = table.kind["group"], rng.randrange(len(table.rows))
    right = table.columns[group["column"]][row]
    check = _only(right, group["values"])
    return Question(group["lookup"].format(row=table.rows[row]), "lookup", "value", check)


def count_group(table: Table, rng: Random) -> Question:
    group = table.kind["group"]
    found = table.columns[group["column"]]
    value = rng.choice(found)
    return Question(group["count"].format(value=value), "count", "number", _number(found.count(value)))


def find_extreme(table: Table, rng: Random) -> Question:
    word, one = rng.choice([(word, one) for one in table.kind["numbers"] for word in ("most", "least") if word in one])
    values = table.columns[one["column"]]
    right = table.rows[values.index((max if word == "most" else min)(values))]
    return Question(one[word], word, "name", _only(right, table.rows))


def add_up(table: Table, rng: Random) -> Question:
    summed = [one for one in table.kind["numbers"] if "sum" in one]
    if not summed:
        return subtract(table, rng)
    one = rng.choice(summed)
    return Question(one["sum"], "sum", "number", _number(sum(table.columns[one["column"]])))


def subtract(table: Table, rng: Random) -> Question:
    one = rng.choice([one for one in table.kind["numbers"] if "difference" in one])
    values = table.columns[one["column"]]
    larger, smaller = sorted(rng.sample(range(len(values)), 2), key=lambda row: -values[row])
    text = one["difference"].format(row=table.rows[larger], other=table.rows[smaller])
    return Question(text, "difference", "number", _number(values[larger] - values[smaller]))


OPERATIONS: dict[str, Callable[[Table, Random], Question]] = {
    "lookup": look_up, "group": look_up_group, "count": count_group, "extreme": find_extreme, "sum": add_up,
    "difference": subtract,
}  # fmt: skip


def _number(value: int) -> dict[str, Any]:
    return verifier("number", {"value": str(value)})


def _only(right: str, among: Sequence[str]) -> dict[str, Any]:
    return verifier("named_only", {"any": [right], "others": [one for one in among if one != right]})


def as_markdown(table: Table) -> str:
    rows = [table.header, ["---"] * len(table.header), *table.lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_csv(table: Table) -> str:
    return "\n".join(",".join(row) for row in [table.header, *table.lines])


WRITTEN: dict[str, Callable[[Table], str]] = {"markdown": as_markdown, "csv": as_csv}


def _first(answer: Answer) -> str:
    told = sentences(answer.text)
    return told[0] if told and (answer.finished or len(told) > 1) else ""


def _fault(said: str, table: Table, question: Question, job: Job) -> str:
    """Why a sentence is not fit to stand before the question, "" where it is."""
    if said.endswith("?"):
        return "asks_already"
    if final_number(said) is not None:
        return "has_a_number"
    if any(name.casefold() in said.casefold() for name in table.rows):
        return "names_a_row"
    own, asked_for = stems(said), stems(question.text)
    if not own & (asked_for | stems(" ".join([table.kind["title"], *table.header]))):
        return "off_topic"
    if len(own & asked_for) > len(own) / 2:
        return "repeats_the_question"
    if copies(said, TEMPLATE["scene"]):
        return "copies_an_example"
    return "evaluation_topic" if names(said, job.reserved) else flaw(said)


def _draft(job: Job, table: Table, question: Question, said: str) -> Draft:
    style = job.rng.choice([*WRITTEN])
    closing = job.rng.choice(TEMPLATE["closings"][question.answers])
    title = table.kind["title"]
    text = job.rng.choice(TEMPLATE["joins"]).format(
        title=title, title_lower=title[0].lower() + title[1:], table=WRITTEN[style](table),
        question=" ".join(part for part in (said, question.text, closing) if part),
    )  # fmt: skip
    return Draft(
        None, asked(text), "revised" if said else "template", question.operation,
        "number" if question.answers == "number" else "sentence", question.check, licences=(TEMPLATE["licence"],),
        details={"table": title, "written": style, "rows": len(table.rows)},
    )  # fmt: skip
