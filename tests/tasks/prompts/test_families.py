"""Each family's own part, driven by answers that SmolLM2 gave: what becomes a prompt, what is rejected, and why."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest
from pydantic import ValidationError

from infra.artifacts import Artifact
from tasks import write_prompts
from tasks.configs.prompts import PromptsConfig
from tasks.evaluation_items import evaluation_topics
from tasks.generation import Ask
from tasks.judges.ground_truth import verify
from tasks.prompts import closed_qa, coding, maths, open_qa, writing
from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft, Job, Row, Topic
from tasks.rows import KEYWORD, TEXT, make_row
from tests.tasks.prompts.conftest import WANTED

COFFEE: Topic = {"id": "1" * 32, "topic": "coffee", "macro_topic": "Food"}


PLAIN_FAMILIES = ("open_qa", "writing", "closed_qa", "maths", "coding")
PLAIN = {"paragraph": 1.0}
"""Answer formats of a job whose questions may be of any kind."""


def a_job(
    family: str,
    wanted: int,
    topics: Sequence[Topic] = (COFFEE,),
    material: Mapping[str, Sequence[Row]] | None = None,
    **settings,
) -> Job:
    config = PromptsConfig(**{"oversample": 1.0, "answer_formats": PLAIN, "keyword_maths": 0.0, **settings})
    return Job(family, wanted, config, topics, evaluation_topics(), Random(0), prefix="0", material=material or {})


def said(draft: Draft) -> str:
    return draft.messages[-1]["content"]


def play(conversation: Conversation, *rounds: Sequence[str]) -> tuple[list[Draft], list[list[Ask]]]:
    """Feed recorded answers, one list a round; "…" at an answer's end stands for the token limit."""
    asked = [next(conversation)]
    for texts in rounds:
        answers = [Answer(text.removesuffix("…"), not text.endswith("…")) for text in texts]
        try:
            asked.append(conversation.send(answers))
        except StopIteration as ended:
            return ended.value, asked
    raise AssertionError(f"the family asks for more: {asked[-1]}")


def reasons(job: Job) -> Counter[str]:
    return Counter(entry["reason"] for entry in job.rejected)


def test_open_qa_keeps_questions_on_topic_and_revises_them() -> None:
    job = a_job("open_qa", 2, per_call=6)
    listed = (
        "1. Why is coffee so popular?\n2. What makes a ball bounce?\n3. Why is coffee so popular?\n4. Coffee beans.\n"
        "5. Can a penguin drink coffee?\n6. How do people brew coffee at home?"
    )
    revised = ["At work we drink six cups of coffee a day. Why is coffee so popular?", "I don't know, I'm afraid."]
    drafts, asked = play(open_qa.write(job), [listed], revised)
    assert [draft.source for draft in drafts] == ["revised", "draft"]
    assert said(drafts[0]).startswith(revised[0]) and said(drafts[1]).startswith("How do people brew coffee at home?")
    assert reasons(job) == {
        "off_topic": 1, "duplicate": 1, "no_question": 1, "evaluation_topic": 1, "revision_no_question": 1
    }  # fmt: skip
    assert "coffee" in asked[0][0].messages[-2]["content"] and asked[0][0].messages[-1]["content"] == "1."
    assert asked[1][0].messages[-2]["content"] == "Question: Why is coffee so popular?"
    constraint = asked[1][0].params.constraint
    assert constraint and constraint.text.endswith(r"\. Why\ is\ coffee\ so\ popular\?")


def test_open_qa_asks_for_questions_that_suit_the_answers_format() -> None:
    job = a_job("open_qa", 3, per_call=2, answer_formats={"yes_no": 1, "steps": 1, "json": 1})
    conversation = open_qa.write(job)
    asked = {ask.messages[-2]["content"].split("Write 2 ")[1].split(" that")[0]: ask for ask in next(conversation)}
    yes_no = asked["short yes-or-no questions"]
    assert len(asked) == 3 and yes_no.params.constraint and "Is|Are|Can" in yes_no.params.constraint.text
    lists = {
        "short yes-or-no questions": "1. Why is coffee so popular?\n2. Is coffee good for your heart?",
        'short "how do I" questions': "1. How do I brew coffee on a hike?\n2. Is coffee from Peru any good?",
        "short questions": "1. Where does coffee come from at first?\n2. Which coffee has the most aroma?",
    }
    conversation.send([Answer(lists[kind], True) for kind in asked])
    with pytest.raises(StopIteration) as ended:
        conversation.send([Answer("My aunt asks me about coffee each day. What is it?", True)] * 3)
    drafts = {draft.answer_format: draft for draft in ended.value.value}
    assert reasons(job)["unfit_for_format"] == 2 and set(drafts) == {"yes_no", "steps", "json"}
    assert said(drafts["yes_no"]).startswith("Is coffee good for your heart? ")
    assert said(drafts["steps"]).startswith("How do I brew coffee on a hike? ") and "step" in said(drafts["steps"])
    assert "JSON" in said(drafts["json"]) and drafts["json"].source == "revised"


def test_a_format_that_gave_too_little_is_filled_up_with_others() -> None:
    job = a_job("open_qa", 2, per_call=3, answer_formats={"yes_no": 1, "paragraph": 1})
    conversation = open_qa.write(job)
    kinds = ["yes-or-no" in ask.messages[-2]["content"] for ask in next(conversation)]
    plain = "1. Why is coffee so popular?\n2. How do people brew coffee at home?\n3. Who drank the first coffee of all?"
    conversation.send([Answer("1. Bees?" if yes_no else plain, True) for yes_no in kinds])
    with pytest.raises(StopIteration) as ended:
        conversation.send([Answer("", True)] * 2)
    assert [draft.answer_format for draft in ended.value.value] == ["paragraph", "paragraph"]


def test_an_answer_that_is_no_list_can_be_converted_but_not_made_up() -> None:
    prose = "I wonder why coffee is popular. Also: How do people brew coffee at home?"
    job = a_job("open_qa", 1)
    drafts, _ = play(open_qa.write(job), [prose], [])
    assert drafts == [] and reasons(job) == {"not_a_list": 1}
    job = a_job("open_qa", 1, convert_lists=True)
    converted = "- How do people brew coffee at home?\n- What does coffee cost today?"
    drafts, asked = play(
        open_qa.write(job), [prose], [converted], ["My cup of coffee is empty. How do people brew coffee at home?"]
    )
    assert said(drafts[0]).startswith("My cup of coffee is empty. How do people brew coffee at home?")
    assert reasons(job) == {"not_literal": 1} and prose in asked[1][0].messages[0]["content"]
    assert job.rejected[0]["messages"] == [{"role": "user", "content": "What does coffee cost today?"}]


def test_writing_starts_with_its_document_and_gains_a_demand() -> None:
    job = a_job("writing", 2)
    opening = next(writing.write(job))[0].messages[-1]["content"]
    document = opening.removeprefix("1. Write ")
    job = a_job("writing", 2)
    tasks = [f"Write {document} about the smell of coffee.", f"Write {document} about a broken coffee machine."]
    listed = f"1. {tasks[0]}\n2. Sing about coffee.\n3. {tasks[1]}"
    demand = "It should have three parts and end with a question."
    drafts, _ = play(
        writing.write(job), [listed], [f"{tasks[0]} {demand} And it sho…", f"{tasks[1]} Make sure that it…"]
    )
    assert [(said(draft), draft.source, draft.answer_format) for draft in drafts] == [
        (f"{tasks[0]} {demand}", "revised", "text"),
        (tasks[1], "draft", "text"),
    ]
    assert {draft.task for draft in drafts} == {document.split(" ", 1)[1]}
    assert reasons(job) == {"no_task": 1, "revision_no_longer": 1}


def test_maths_keeps_no_number_of_the_generator() -> None:
    topics = [{**COFFEE, "topic": topic} for topic in ("coffee", "trains", "art", "maps", "soccer")]
    job = a_job("maths", 5, topics)
    heroes = [ask.messages[-1]["content"] for ask in next(maths.write(job))[:5]]
    job = a_job("maths", 5, topics)
    scenes = [
        f"{heroes[0]} loved the smell of the old mill. She came often.",
        f"{heroes[1]} has three cups on the table.",
        f"{heroes[2]} loved to watch the penguins at the zoo.",
        "Somebody else walked down the street.",
        f"{heroes[4]} was the one who always came first.",
    ]
    things = ["cups, beans", "spoons", "cups", "cups", "Mugs, mugs, coffee."]
    drafts, _ = play(maths.write(job), [*scenes, *things])
    assert reasons(job) == {"scene_has_a_number": 1, "scene_evaluation_topic": 1, "scene_no_hero": 1}
    assert len(drafts) == 2 and "mugs" in said(drafts[1])
    for draft, scene in zip(drafts, (scenes[0].split(". ")[0], scenes[4]), strict=True):
        assert said(draft).startswith(scene)
        assert draft.verifier and verify(draft.verifier, json.loads(draft.verifier["payload"])["value"])


@pytest.mark.parametrize("seed", range(8))
def test_maths_answers_are_whole_and_positive(seed: int) -> None:
    job = a_job("maths", 4)
    job.rng.seed(seed)
    for turn in range(4):
        draft = maths._problem(job, COFFEE, "Eva sat down.", "Eva", "cups", turn)
        value = json.loads((draft.verifier or {})["payload"])["value"]
        assert value.isdigit() and 0 < int(value) <= 100
        assert "{" not in said(draft) and draft.source == f"scene+{list(maths.TEMPLATE['problems'])[turn]}"


def test_maths_and_coding_write_problems_about_keywords_at_their_levels() -> None:
    keyword = {"source": "keywords/picked", "synthetic": False, "generator": "", "licence": "MIT"}
    rows = [make_row(KEYWORD, {"keyword": name, "field": field, "origin": "picked", **keyword}, name)
            for name, field in (("ratio", "maths"), ("tuples", "python"))]  # fmt: skip
    job = a_job("maths", 2, material={"keywords": rows}, keyword_maths=1.0)
    answers = ["Two ropes have a ratio of 2 to 3. How long is the longer one if the other has 8 meters?",
               "Twelve cookies are shared by 5 children. How many cookies are left over?"]  # fmt: skip
    drafts, asked = play(maths.write(job), answers)
    assert ["ratio" in ask.messages[-1]["content"] for ask in asked[0]] == [True, True]
    assert [(said(draft), draft.details, draft.verifier) for draft in drafts] == [
        (answers[0], {"keyword": "ratio", "level": "general"}, None)
    ]
    assert drafts[0].parents == (rows[0]["id"],) and drafts[0].licences == ("MIT",)
    assert reasons(job) == {"problem_copies_an_example": 1}
    job = a_job("coding", 3, material={"keywords": rows})
    written = [
        "Write a Python function that swaps the two halves of a tuple.",
        "Write a Python class that counts tuples. It also",
        "Write a Python game of chess with tuples.",
    ]
    drafts, asked = play(coding.write(job), [written[0], written[1] + "…", written[2]])
    assert [(said(draft), draft.details["level"], draft.answer_format) for draft in drafts] == [
        (written[0], "beginner", "code"), ("Write a Python class that counts tuples.", "intermediate", "code")
    ]  # fmt: skip
    assert reasons(job) == {"problem_evaluation_topic": 1} and "difficult" in asked[0][2].messages[-2]["content"]


def test_maths_mixes_checked_and_unchecked_problems() -> None:
    job = a_job("maths", 4, keyword_maths=0.25)
    heroes = [ask.messages[-1]["content"] for ask in next(maths.write(job))[:3]]
    job = a_job("maths", 4, keyword_maths=0.25)
    scenes = [f"{hero} loved the smell of the old mill." for hero in heroes]
    drafts, _ = play(
        maths.write(job), [*scenes, *["cups"] * 3, "How many hours are there in a whole week of seven days?"]
    )
    assert [bool(draft.verifier) for draft in drafts] == [False, True, True, True]
    assert {draft.task for draft in drafts} == {"problem", "word problem"}


DOCUMENT = (
    "The mill in Marlow has a new wheel. It turns day and night. Anna Reed built it from oak in two long winters."
)


def documents(*texts: str) -> dict[str, list[Row]]:
    known = {"source": "mine", "synthetic": False, "generator": "", "licence": "CC-BY-4.0"}
    return {"documents": [make_row(TEXT, {"text": text, **known}, text) for text in texts]}


def test_closed_qa_joins_a_whole_document_and_a_request_of_each_kind() -> None:
    material = documents(DOCUMENT, "Too short.", DOCUMENT.replace("mill", "lighthouse"))
    job = a_job("closed_qa", 8, material=material, document_words=60)
    asks = next(closed_qa.write(job))
    starts = [ask.messages[-1]["content"] for ask in asks]
    job = a_job("closed_qa", 8, material=material, document_words=60)
    endings = {"information": "did Anna Reed build in two winters?", "rework": "the wheel of the mill.",
               "similar": "a boat that nobody needs.", "other": "the people of Marlow."}  # fmt: skip
    kinds = [next(kind for kind, data in closed_qa.KINDS.items() if start in data["begins"]) for start in starts]
    answers = [f"{start} {endings[kind]}" for start, kind in zip(starts, kinds, strict=True)]
    drafts, _ = play(closed_qa.write(job), answers)
    assert Counter(kinds) == dict.fromkeys(closed_qa.KINDS, 2)
    assert {draft.task for draft in drafts} == set(closed_qa.KINDS) and 6 <= len(drafts) <= 8
    assert reasons(job)["document_too_short"] == reasons(job)["document_of_evaluation_topic"] == 1
    for draft in drafts:
        assert DOCUMENT in said(draft) and draft.topic is None
        assert draft.parents == (material["documents"][0]["id"],) and draft.licences == ("CC-BY-4.0",)
        assert draft.details == {"document": {"words": 23, "kept_words": 23, "cut": ""}}
        assert draft.answer_format == ("text" if draft.task == "similar" else "paragraph")


def test_closed_qa_says_what_it_cut_and_refuses_what_is_no_request_about_it() -> None:
    job = a_job("closed_qa", 4, material=documents(" ".join([DOCUMENT] * 3)), document_words=40)
    starts = [ask.messages[-1]["content"] for ask in next(closed_qa.write(job))]
    job = a_job("closed_qa", 4, material=documents(" ".join([DOCUMENT] * 3)), document_words=40)
    kinds = [next(kind for kind, data in closed_qa.KINDS.items() if start in data["begins"]) for start in starts]
    endings = {"information": "do whales and penguins eat in winter?", "rework": "happiness and other big feelings.",
               "similar": "a mill that has a wheel of oak.", "other": "the reading public here."}  # fmt: skip
    drafts, _ = play(
        closed_qa.write(job), [f"{start} {endings[kind]}" for start, kind in zip(starts, kinds, strict=True)]
    )
    assert [draft.task for draft in drafts] == ["other"]
    assert drafts[0].details["document"] == {"words": 69, "kept_words": 36, "cut": "sentence_end"}
    assert said(drafts[0]).count("Anna Reed") == 1 and "day and night." in said(drafts[0])
    assert reasons(job) == {"evaluation_topic": 1, "off_topic": 1, "no_other_subject": 1}


def test_closed_qa_uses_the_bundled_documents_where_none_are_given() -> None:
    job = a_job("closed_qa", 4)
    asks = next(closed_qa.write(job))
    texts = [row["text"] for row in closed_qa.bundled_documents()]
    assert (
        len(texts) >= 40 and len({text for text in texts if any(text in a.messages[-2]["content"] for a in asks)}) == 4
    )


def test_shards_share_the_families_evenly() -> None:
    slots = write_prompts.spread({"open_qa": 30, "maths": 10})
    assert [number for number, _ in slots] == list(range(40))
    assert Counter(family for _, family in slots[:20]) == {"open_qa": 15, "maths": 5}


def test_settings_are_checked_at_once() -> None:
    with pytest.raises(ValidationError, match=r"no prompt family \['riddles'\]; families: .*maths"):
        PromptsConfig(families={"riddles": 3})
    with pytest.raises(ValidationError, match="name at least one"):
        PromptsConfig(families={})
    with pytest.raises(ValidationError, match=r"unknown answer formats \['haiku'\]; known: json, list"):
        PromptsConfig(answer_formats={"haiku": 1})
    with pytest.raises(ValidationError, match="one of them above 0"):
        PromptsConfig(answer_formats={"json": 0})
    with pytest.raises(ValidationError, match="both trained and held out"):
        PromptsConfig(kinds=("json", "keyword"))


def test_every_family_has_its_template_and_templates_are_part_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(write_prompts.__file__).parent / "prompts"
    files = {path.stem for path in folder.glob("*.yaml") if path.with_suffix(".py").exists()}
    assert files == set(write_prompts.FAMILIES)
    before = PromptsConfig().recipe()["data"]
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read(self) + b"#" * (self.name == "maths.yaml"))
    assert PromptsConfig().recipe()["data"] != before


def test_smollm_writes_prompts_of_every_family(written: Artifact, smollm: Artifact) -> None:
    """Real words of a real model: about as many as were wanted, each different, with its task, format and parents."""
    assert len({row["id"] for row in written.rows()}) == written.manifest().rows
    rows = [row for row in written.rows() if row["family"] in PLAIN_FAMILIES]
    got = Counter(row["family"] for row in rows)
    assert got == dict.fromkeys(PLAIN_FAMILIES, 2)
    documents = {row["id"]: row["text"] for row in closed_qa.bundled_documents()}
    for row in rows:
        text = row["messages"][-1]["content"]
        assert row["synthetic"] and row["generator"] == smollm.fingerprint and row["licence"] == "Apache-2.0"
        assert len(text.split()) > 4 and row["task"] and row["answer_format"] and len(row["parents"]) == 1
        assert bool(row["topic"]) == (row["source"].split("/")[1] not in ("document", "keyword"))
        if row["family"] == "closed_qa":
            assert documents[row["parents"][0]].split("\n")[0] in text
    found = written.manifest().result["coverage"]["families"]
    kept = Counter(row["family"] for row in written.rows())
    assert found == {family: {"planned": WANTED[family], "got": kept[family]} for family in sorted(WANTED)}
