"""Questions that a document answers word for word, and some that it does not answer (paper, section 3.2.5).

Code picks what the answer is, a span of the text; the generator writes the question, and has to find the span again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from tasks.documents import bundled_documents, passage
from tasks.judges.ground_truth import verifier, verify
from tasks.judges.verifiers.number import final_number
from tasks.prompts.family import Conversation, Draft, Job, Row, asked, register, template
from tasks.prompts.quality import copies, flaw, names, stems
from tasks.prompts.sentences import sentences

TEMPLATE = template("document_qa")
SPANS: dict[str, dict[str, Any]] = TEMPLATE["spans"]
ASKING, ALLOWED = stems(TEMPLATE["asking"]), stems(TEMPLATE["allowed"])
_ENDINGS = re.compile(r"(?:ing|ed)$")
_ANOTHER = re.compile(r"(?:, |\band )(?:and )?(?:what|how|which|who|when|where)\b")
BEGINNING = 5
"""Letters by which two forms of a word are known as one."""


@dataclass(frozen=True)
class Document:
    row: Row
    text: str
    """What of it is shown."""
    details: dict[str, Any]


@dataclass(frozen=True)
class Fact:
    """A place in a document that can be asked for."""

    document: Document
    sentence: str
    kind: str
    span: str
    unit: str

    @property
    def answers(self) -> list[str]:
        """The span, and its digits where it is a number in words."""
        spelled = self.kind == "quantity" and self.span.isalpha()
        return [self.span, *([str(final_number(self.span))] if spelled else [])]


@register("document_qa")
def write(job: Job) -> Conversation:
    documents = _documents(job)
    facts = _drawn(job, [fact for document in documents for fact in facts_of(document)])
    begins = [job.rng.choice(SPANS[fact.kind]["begins"]).format(unit=fact.unit) for fact in facts]
    answers = yield [
        job.ask(TEMPLATE["ask"], sentence=fact.sentence, span=fact.span, begin=begin)
        for fact, begin in zip(facts, begins, strict=True)
    ]
    questions: dict[str, Fact] = {}
    for fact, begin, answer in zip(facts, begins, answers, strict=True):
        if fault := "duplicate" if answer.text in questions else _fault(answer.text, begin, fact):
            job.reject(fault, answer.text, f"{fact.span} | {fact.sentence}")
        else:
            questions[answer.text] = fact
    found = yield [
        job.ask(TEMPLATE["check"], sentence=fact.sentence, question=question) for question, fact in questions.items()
    ]
    kept: dict[tuple[str, str], tuple[str, Fact]] = {}
    for (question, fact), answer in zip(questions.items(), found, strict=True):
        if not verify(verifier("contains", {"any": fact.answers}), answer.text):
            job.reject("answered_otherwise", question, f"{answer.text} instead of {fact.span} | {fact.sentence}")
        else:
            kept.setdefault((fact.sentence, fact.span), (question, fact))
    return [_draft(job, question, fact, documents) for question, fact in kept.values()]


def facts_of(document: Document) -> list[Fact]:
    """Each with its sentence; a span that stands in the text twice is none."""
    found = []
    for sentence in sentences(document.text):
        for kind, how in SPANS.items():
            for match in re.finditer(how["pattern"], sentence):
                span = match["span"]
                if len(re.findall(rf"(?<!\w){re.escape(span)}(?!\w)", document.text)) == 1:
                    found.append(Fact(document, sentence, kind, span, match.groupdict().get("unit") or ""))
    return found


def _documents(job: Job) -> list[Document]:
    rows = job.material.get("documents") or bundled_documents()
    shown = [(row, passage(row["text"], job.config.document_words)) for row in rows]
    return [Document(row, part.text, part.details()) for row, part in shown if not names(part.text, job.reserved)]


def _drawn(job: Job, facts: Sequence[Fact]) -> list[Fact]:
    """Enough for the drafts that are needed; kinds take turns as long as they have any, then all start again."""
    shuffled = job.rng.sample(facts, len(facts))
    rounds: dict[str, int] = {}
    ranked = []
    for fact in shuffled:
        rounds[fact.kind] = rounds.get(fact.kind, 0) + 1
        ranked.append((rounds[fact.kind], fact))
    turns = [fact for _, fact in sorted(ranked, key=lambda pair: pair[0])]
    return [*islice(cycle(turns), job.drafts(1) * TEMPLATE["tries"])]


def _fault(question: str, begin: str, fact: Fact) -> str:
    if verify(verifier("contains", {"any": fact.answers}), question):
        return "tells_the_answer"
    own = stems(question) - stems(begin) - ASKING
    if len(_known(own, fact.sentence)) < TEMPLATE["least_known"] * max(1, len(own)):
        return "off_topic"
    if own - _known(own, fact.document.text) - ALLOWED:
        return "made_up"
    if _ANOTHER.search(question):
        return "asks_twice"
    if copies(question.removeprefix(begin), TEMPLATE["ask"]):
        return "copies_an_example"
    return flaw(question)


def _known(asked_for: set[str], text: str) -> set[str]:
    """Words that the text has, in this form or another."""
    told = stems(text)
    return {
        word for word in asked_for
        if any(one.startswith(_ENDINGS.sub("", word)[:BEGINNING]) for one in told)
        or told & set(TEMPLATE["irregular"].get(word, "").split())
    }  # fmt: skip


def _draft(job: Job, question: str, fact: Fact, documents: Sequence[Document]) -> Draft:
    other = _silent(question, fact, documents, job) if job.rng.random() < TEMPLATE["unanswerable_share"] else None
    shown = other or fact.document
    check = (
        verifier("not_in_text", {"start": TEMPLATE["start"]}) if other else verifier("contains", {"any": fact.answers})
    )
    text = job.rng.choice(TEMPLATE["joins"]).format(text=shown.text, question=question)
    return Draft(
        None, asked(text), "unanswerable" if other else f"span:{fact.kind}", "unanswerable" if other else fact.kind,
        "sentence", check, (shown.row["id"],), (shown.row["licence"] or "",),
        {"document": shown.details, "answer": "" if other else fact.span},
    )  # fmt: skip


def _silent(question: str, fact: Fact, documents: Sequence[Document], job: Job) -> Document | None:
    """A document that has nothing to do with the question."""
    own = stems(question) - ASKING
    return next(
        (one for one in job.rng.sample(documents, len(documents))
         if not own & stems(one.text) and not verify(verifier("contains", {"any": fact.answers}), one.text)),
        None,
    )  # fmt: skip
