"""Each family's own part, driven by answers that SmolLM2 gave: what becomes a prompt, what is rejected, and why."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from pydantic import ValidationError

from tasks import write_prompts
from tasks.configs.prompts import HELD_OUT_KINDS, TRAINED_KINDS, PromptsConfig
from tasks.evaluation_items import evaluation_topics
from tasks.generation import Ask
from tasks.judges.ground_truth import verify
from tasks.prompts import instruction, instructions, maths, open_qa, writing
from tasks.prompts.calls import Answer
from tasks.prompts.family import Conversation, Draft, Job, Topic

COFFEE: Topic = {"id": "1" * 32, "topic": "coffee", "macro_topic": "Food"}


def a_job(family: str, wanted: int, topics: Sequence[Topic] = (COFFEE,), **settings) -> Job:
    config = PromptsConfig(**{"oversample": 1.0, **settings})
    return Job(family, wanted, config, topics, evaluation_topics(), Random(0), prefix="0")


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
    revised = [
        "At work we drink six cups a day. Why is coffee so popular, and is that much of it bad for us?",
        "I don't know, I'm afraid.",
    ]
    drafts, asked = play(open_qa.write(job), [listed], revised)
    assert [(draft.text, draft.source) for draft in drafts] == [
        (revised[0], "revised"), ("How do people brew coffee at home?", "draft"),
    ]  # fmt: skip
    assert reasons(job) == {
        "off_topic": 1, "duplicate": 1, "no_question": 1, "evaluation_topic": 1, "revision_no_question": 1
    }  # fmt: skip
    assert "coffee" in asked[0][0].messages[-2]["content"] and asked[0][0].messages[-1]["content"] == "1."
    assert asked[1][0].messages[-2]["content"] == "Question: Why is coffee so popular?"


def test_an_answer_that_is_no_list_can_be_converted_but_not_made_up() -> None:
    prose = "I wonder why coffee is popular. Also: How do people brew coffee at home?"
    job = a_job("open_qa", 1)
    drafts, _ = play(open_qa.write(job), [prose], [])
    assert drafts == [] and reasons(job) == {"not_a_list": 1}
    job = a_job("open_qa", 1, convert_lists=True)
    converted = "- How do people brew coffee at home?\n- What does coffee cost today?"
    drafts, asked = play(
        open_qa.write(job), [prose], [converted], ["My cup is empty. How do people brew coffee at home?"]
    )
    assert [draft.text for draft in drafts] == ["My cup is empty. How do people brew coffee at home?"]
    assert reasons(job) == {"not_literal": 1} and prose in asked[1][0].messages[0]["content"]


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
    assert [(draft.text, draft.source) for draft in drafts] == [
        (f"{tasks[0]} {demand}", "revised"),
        (tasks[1], "draft"),
    ]
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
    assert len(drafts) == 2 and "mugs" in drafts[1].text
    for draft, scene in zip(drafts, (scenes[0].split(". ")[0], scenes[4]), strict=True):
        assert draft.text.startswith(scene)
        assert draft.verifier and verify(draft.verifier, json.loads(draft.verifier["payload"])["value"])


@pytest.mark.parametrize("seed", range(8))
def test_maths_answers_are_whole_and_positive(seed: int) -> None:
    job = a_job("maths", 4)
    job.rng.seed(seed)
    for turn in range(4):
        draft = maths._problem(job, COFFEE, "Eva sat down.", "Eva", "cups", turn)
        value = json.loads((draft.verifier or {})["payload"])["value"]
        assert value.isdigit() and 0 < int(value) <= 100
        assert "{" not in draft.text and draft.source == f"scene+{list(maths.TEMPLATE['problems'])[turn]}"


def test_instruction_gives_every_kind_its_share_and_keeps_the_plain_request() -> None:
    questions = [f"How is coffee number {word} brewed at home?" for word in "abcdefghijklmnopqrst"]
    listed = "\n".join(f"{number}. {question}" for number, question in enumerate(questions, start=1))
    job = a_job("instruction", 20, per_call=20)
    conversation = instruction.write(job)
    writing_asks = 3  # 20 × 0.25 tasks, two ideas a call
    drafts, asked = play(conversation, [listed], [""] * writing_asks)
    assert len(asked[1]) == writing_asks
    kinds = Counter(json.loads(draft.verifier["payload"])["checks"][0]["kind"] for draft in drafts if draft.verifier)
    assert set(kinds) == set(TRAINED_KINDS) and max(kinds.values()) - min(kinds.values()) <= 1
    assert not set(kinds) & set(HELD_OUT_KINDS)
    for draft in drafts:
        payload = json.loads((draft.verifier or {})["payload"])
        request = next(question for question in questions if question in draft.text)
        assert payload["plain"].startswith(f"{request} ") and payload["plain"] != draft.text
        repaired = instructions.repair(
            payload["checks"], "Coffee is old. It is hot. It is black. It is good. We like it."
        )
        assert repaired is None or verify(draft.verifier, repaired)


def test_shards_share_the_families_evenly() -> None:
    slots = write_prompts.spread({"open_qa": 30, "maths": 10})
    assert [number for number, _ in slots] == list(range(40))
    assert Counter(family for _, family in slots[:20]) == {"open_qa": 15, "maths": 5}


def test_settings_are_checked_at_once() -> None:
    with pytest.raises(ValidationError, match=r"no prompt family \['riddles'\]; families: instruction, maths"):
        PromptsConfig(families={"riddles": 3})
    with pytest.raises(ValidationError, match="name at least one"):
        PromptsConfig(families={})
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
