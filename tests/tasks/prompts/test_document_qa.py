"""Questions about documents, driven by what SmolLM2 wrote, well and badly."""

from random import Random

import pytest

from tasks.documents import bundled_documents
from tasks.generation import Ask
from tasks.judges.ground_truth import verify
from tasks.prompts import document_qa
from tasks.prompts.family import Job
from tests.tasks.prompts.conversations import Say, request, respond, text_row
from tests.tasks.prompts.test_families import a_job

FERRY = (
    "The ferry to Marstal was built in 1931 and has 48 seats. Anna Holm runs it with three sailors. "
    "On Monday it stays in the harbour, where it is cleaned. Nobody may bring a horse on board."
)
OLD = "An old boat with a broken mast lies behind the ferry. Children climb on it, and birds nest in its bow."
BREAD = "Bake the loaf until the crust is brown. Butter it, cut it and eat it warm. Keep the rest in a cloth bag."


def test_spans_are_found_with_their_kinds() -> None:
    document = document_qa.Document(text_row(FERRY), FERRY, {})
    found = {(fact.kind, fact.span, fact.unit) for fact in document_qa.facts_of(document)}
    assert found == {
        ("year", "1931", ""), ("quantity", "48", "seats"), ("quantity", "three", "sailors"),
    } | {fact for fact in found if fact[0] in ("person", "place", "day")}  # fmt: skip
    awkward = (
        "It is twenty-five years old. Three times it rained in English and in March. The one of 3,000 homes was 3,000."
    )
    document = document_qa.Document(text_row(awkward), awkward, {})
    assert [fact.span for fact in document_qa.facts_of(document)] == []


def document_job(*texts: str, wanted: int = 2) -> Job:
    return a_job("document_qa", wanted, material={"documents": [text_row(text) for text in texts]})


FORMS = "Four nurses wore the lamps that Ada joined. They lost one and the cable was cut. It works 0.4 hours."
GOOD = {"1931": "was the ferry built?", "48": "does the ferry have?", "three": "run the ferry with Anna?"}
"""How questions go on from their beginning."""


def ferry_talk(ends: dict[str, str], found: str = "{span}") -> Say:
    def say(ask: Ask) -> str:
        shown, _, span = request(ask).partition("answered by: ")
        if span:
            return f"{ask.messages[-1]['content']} {ends.get(span, '…')}"
        return found.format(span=next(span for span, end in ends.items() if shown.endswith(end)))

    return say


def test_a_document_answers_its_questions_word_for_word() -> None:
    job = document_job(FERRY, wanted=8)
    drafts = respond(document_qa.write(job), ferry_talk(GOOD))
    assert {draft.details["answer"] for draft in drafts} == set(GOOD)
    for draft in drafts:
        said, span = draft.messages[0]["content"], draft.details["answer"]
        assert FERRY in said and GOOD[span] in said and draft.parents == (job.material["documents"][0]["id"],)
        assert verify(draft.verifier, f"It is {span}.") is True and verify(draft.verifier, "It does not say.") is False
        assert draft.licences == ("CC-BY-4.0",) and draft.details["document"]["cut"] == ""
    three = next(draft for draft in drafts if draft.details["answer"] == "three")
    assert verify(three.verifier, "3 sailors") is True


def test_a_question_may_have_another_form_of_a_word() -> None:
    words = {"joining", "join", "lose", "work", "lamp", "wood", "cabin"}
    assert document_qa._known(words, FORMS) == {"joining", "join", "lose", "work", "lamp"}
    facts = document_qa.facts_of(document_qa.Document(text_row(FORMS), FORMS, {}))
    assert [fact.answers for fact in facts if fact.kind == "quantity"] == [["0.4"]]


def test_some_questions_are_about_another_document() -> None:
    drafts = []
    for seed in range(12):
        job = document_job(FERRY, OLD, BREAD, wanted=8)
        job.rng = Random(seed)
        drafts += respond(document_qa.write(job), ferry_talk(GOOD))
    strange = [draft for draft in drafts if draft.task == "unanswerable"]
    assert 0.1 < len(strange) / len(drafts) < 0.4
    for draft in strange:
        assert BREAD in draft.messages[0]["content"] and FERRY not in draft.messages[0]["content"]
        assert verify(draft.verifier, "The text does not say when the ferry was built.") is True
        assert verify(draft.verifier, "The ferry was built in 1931.") is False


@pytest.mark.parametrize(
    ("end", "found", "reason"),
    [
        ("did the ferry sail in 1931?", "1931", "tells_the_answer"),
        ("did the mill grind its corn?", "1931", "off_topic"),
        ("was the ferry to Marstal built from wood?", "1931", "made_up"),
        ("was the ferry", "1931", "unfinished"),
        ("was the ferry built, and how many seats has it?", "1931", "asks_twice"),
        ("was the ferry built?", "In 1845", "answered_otherwise"),
    ],
)
def test_questions_that_the_span_does_not_answer_are_rejected(end: str, found: str, reason: str) -> None:
    job = document_job(FERRY, wanted=8)
    drafts = respond(document_qa.write(job), ferry_talk({"1931": end}, found))
    mine = {entry["reason"] for entry in job.rejected if entry["messages"][0]["content"].endswith(end)}
    assert drafts == [] and mine - {"duplicate"} == {reason}


def test_bundled_documents_have_facts_to_ask_for() -> None:
    facts = [
        fact for row in bundled_documents()
        for fact in document_qa.facts_of(document_qa.Document(row, row["text"], {}))
    ]  # fmt: skip
    assert len(facts) >= 60 and {fact.kind for fact in facts} == set(document_qa.SPANS)
