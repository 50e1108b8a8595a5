"""Closed questions: a document and a request about it, in the generator's words, of four kinds (paper, section 3.2).

What of the document was left out stands in the row: details {"document": {"words": 90, "kept_words": 60, "cut": …}}.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil

from tasks.documents import Passage, bundled_documents, passage
from tasks.generation import Ask
from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft, Job, Row, asked, register, template
from tasks.prompts.formats import Cell, as_planned, plan, with_format
from tasks.prompts.quality import copies, flaw, names, stems
from tasks.prompts.sentences import words

TEMPLATE = template("closed_qa")
KINDS = TEMPLATE["kinds"]


@dataclass(frozen=True)
class Case:
    """A document and what is to be asked about it."""

    row: Row
    passage: Passage
    cell: Cell
    """The kind of request and the answer's format."""
    begin: str
    """First words of the request."""


@register("closed_qa")
def write(job: Job) -> Conversation:
    """Each planned kind and format is asked for as often as `oversample` says; the first good one of each counts."""
    cells = plan("closed_qa", job.wanted, job.config.answer_formats, job.rng)
    tries = [*islice(cycle(cells), ceil(job.wanted * job.config.oversample))]
    cases = [
        Case(row, found, cell, job.rng.choice(_begins(cell)))
        for (row, found), cell in zip(_documents(job, len(tries)), tries, strict=False)
    ]
    answers = yield [_ask(job, case) for case in cases]
    drafts: dict[str, tuple[Cell, Draft]] = {}
    for case, answer in zip(cases, answers, strict=True):
        if reason := _fault(answer, case, job):
            job.reject(reason, answer.text, detail=case.passage.text)
        else:
            made = _draft(job, case, answer.text)
            drafts.setdefault(f"{case.row['id']} {answer.text}", (case.cell, made))
    return as_planned(drafts.values(), cells)


def _documents(job: Job, count: int) -> list[tuple[Row, Passage]]:
    """`count` documents, from the start again when there are fewer; too short and reserved ones left out."""
    rows = job.material.get("documents") or bundled_documents()
    shuffled = job.rng.sample([*rows], len(rows))
    good: list[tuple[Row, Passage]] = []
    for row in shuffled:
        found = passage(row["text"], job.config.document_words)
        if len(good) == count:
            break
        if reason := _unfit(found, job.reserved):
            job.reject(reason, found.text)
        else:
            good.append((row, found))
    return [*islice(cycle(good), count)]


def _unfit(found: Passage, reserved: Sequence[str]) -> str:
    if len(words(found.text)) < TEMPLATE["least_words"]:
        return "document_too_short"
    return "document_of_evaluation_topic" if names(found.text, reserved) else ""


def _begins(cell: Cell) -> list[str]:
    kind = KINDS[cell[0]]
    return kind["yes_no"] if cell[1] == "yes_no" else kind["begins"]


def _ask(job: Job, case: Case) -> Ask:
    ending = r"\?" if case.cell[0] == "information" else r"\."
    kind = {**KINDS[case.cell[0]], "pattern": rf" [^\n?.!]{{8,120}}{ending}"}
    return job.ask(kind, text=case.passage.text, begin=case.begin)


def _fault(answer: Answer, case: Case, job: Job) -> str:
    kind, said = case.cell[0], answer.text.removeprefix(case.begin)
    shared = stems(said) & stems(case.passage.text)
    if copies(said, KINDS[kind]):
        return "copies_an_example"
    if kind == "information" and not said.endswith("?"):
        return "no_question"
    general = bool(stems(said) & {*TEMPLATE["general"]})
    if not shared and (kind == "information" or (kind == "rework" and not general)):
        return "off_topic"
    if kind == "similar" and (len(shared) > 1 or general):
        return "no_other_subject"
    return "evaluation_topic" if names(said, job.reserved) else flaw(answer.text)


def _draft(job: Job, case: Case, request: str) -> Draft:
    text = case.passage.text
    wording = with_format(request, case.cell[1], job.rng)
    joined = job.rng.choice(TEMPLATE["joins"]).format(text=text, request=wording, quoted=text.replace("\n", "\n> "))
    return Draft(
        None, asked(joined), "document", *case.cell, parents=(case.row["id"],), licences=(case.row["licence"] or "",),
        details={"document": case.passage.details()},
    )  # fmt: skip
