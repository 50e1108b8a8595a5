"""Prompt sources compared by one responder's answers, and what the page says of coverage and diversity."""

import re
from typing import Any

import pytest

from infra.artifacts import Artifact
from infra.output import Outcome
from tasks.configs.responses import Responder, ResponsesConfig
from tasks.coverage import coverage_of
from tasks.diversity import measure_diversity
from tasks.reporting.sources import GROUPS, compare, gap, mean_of, place_of
from tasks.rows import PROMPT, RESPONSE, make_row
from tests.tasks.reporting.conftest import Made, Workshop, ask, rows_into

EVIL = '<script>alert("owned")</script>'
SEVERAL = [*ask("Hi"), {"role": "assistant", "content": "Hello"}, *ask("And now?")]
Row = dict[str, Any]


def a_prompt(text: str, source: str, synthetic: bool = True, messages: Any = None) -> Row:
    values = {"family": source.partition("/")[0], "topic": "tea", "task": "question", "answer_format": "paragraph",
              "messages": messages or ask(text), "source": source, "synthetic": synthetic, "generator": "",
              "side": "", "unsafe": False, "licence": "MIT"}  # fmt: skip
    return make_row(PROMPT, values, text)


PROMPTS = [
    a_prompt("a", "open_qa/revised"),
    a_prompt("b", "open_qa/draft"),
    a_prompt("c", "writing/draft"),
    a_prompt("d", "lmsys_chat", synthetic=False),
    a_prompt("e", "lmsys_chat", synthetic=False),
    a_prompt("f", "two_turn/refine", messages=SEVERAL),
    a_prompt("g", "instruction/case"),
    a_prompt("h", f"{EVIL}", synthetic=False),
]
HELPFULNESS = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 2.0, "e": 2.5, "f": 1.0, "g": None, "h": 3.0}


def an_answer(prompt: Row, helpfulness: float | None, responder: str = "greedy", aid: str = "", sample: int = 0) -> Row:
    reward = None if helpfulness is None else 2 * helpfulness
    values = {"prompt_id": prompt["id"], "family": prompt["family"], "topic": "tea", "prompt": prompt["messages"],
              "response": "said", "responder": responder, "sample": sample, "aid": aid, "finish_reason": "stop",
              "helpfulness": helpfulness, "reward": reward, "source": "responses", "synthetic": True,
              "generator": "", "licence": "MIT"}  # fmt: skip
    return make_row(RESPONSE, values, [prompt["id"], responder, aid, sample], [prompt["id"]])


def judged_rows() -> list[Row]:
    """Beside the first responder's answers some that must not count: another's, an aided one, a stranger's."""
    texts = "abcdefgh"
    rows = [an_answer(prompt, HELPFULNESS[text]) for text, prompt in zip(texts, PROMPTS, strict=True)]
    rows += [an_answer(prompt, 0.0, "warm") for prompt in PROMPTS]
    rows += [an_answer(PROMPTS[0], 0.0, aid="repair"), an_answer(a_prompt("stranger", "open_qa/draft"), 0.0)]
    return rows


def rows_of(found: Any) -> dict[tuple[str, str], tuple[int, int, float | None, float | None]]:
    return {
        (row.group, row.source): (
            row.prompts, row.scored, row.helpfulness and row.helpfulness.value, row.reward and row.reward.value,
        )
        for row in found.rows
    }  # fmt: skip


def test_each_source_and_group_has_the_mean_of_the_first_responder() -> None:
    found = compare("greedy", {row["id"]: place_of(row) for row in PROMPTS}, judged_rows())
    real, one_turn, several, instruction = GROUPS
    assert rows_of(found) == {
        (real, ""): (3, 3, 2.5, 5.0),
        (real, "lmsys_chat"): (2, 2, 2.25, 4.5),
        (real, EVIL.partition("/")[0]): (1, 1, 3.0, 6.0),
        (one_turn, ""): (3, 3, 3.0, 6.0),
        (one_turn, "open_qa"): (2, 2, 3.5, 7.0),
        (one_turn, "writing"): (1, 1, 2.0, 4.0),
        (several, ""): (1, 1, 1.0, 2.0),
        (several, "two_turn"): (1, 1, 1.0, 2.0),
        (instruction, ""): (1, 0, None, None),
        (instruction, "instruction"): (1, 0, None, None),
    }
    assert [row.group for row in found.rows if not row.source] == [real, one_turn, several, instruction]
    assert found.gap and found.gap.value == pytest.approx(0.5)


def test_several_answers_to_a_prompt_count_as_one() -> None:
    prompt, other = PROMPTS[:2]
    rows = [an_answer(prompt, value, sample=place) for place, value in enumerate((1.0, 2.0, 3.0))]
    found = compare("greedy", {row["id"]: place_of(row) for row in PROMPTS}, [*rows, an_answer(other, 4.0)])
    whole = found.rows[0].helpfulness
    assert whole and whole.value == 3.0 and whole.error == pytest.approx(1.0)


def test_standard_errors() -> None:
    assert mean_of([]) is None
    alone, three = mean_of([2.0]), mean_of([1.0, 2.0, 3.0])
    assert alone and alone.error is None
    assert three and three.error == pytest.approx(1 / 3**0.5)
    between = gap(three, mean_of([0.0, 0.0, 3.0]))
    assert between and between.value == 1.0 and between.error == pytest.approx((1 / 3 + 1) ** 0.5)
    assert gap(three, None) is None and (unsure := gap(three, alone)) and unsure.error is None


def traced(workshop: Workshop) -> dict[str, Artifact]:
    """Prompts with their coverage, answers to them, and the judged ones."""
    planned = {"open_qa": 3, "writing": 2}
    outcome = Outcome(metrics=measure_diversity(PROMPTS), result={"coverage": coverage_of(PROMPTS, planned)})
    prompts = workshop.put("all prompts", "prompts", fill=rows_into(PROMPTS, PROMPT), outcome=outcome)
    clean = workshop.put("clean prompts 2", "deduplicate", fill=rows_into(PROMPTS, PROMPT), rows=prompts)
    config = ResponsesConfig(responders=(Responder(label="greedy"), Responder(label="warm", temperature=1.0)))
    rows = judged_rows()
    answered = workshop.put("responses 2", "responses", fill=rows_into(rows, RESPONSE), recipe=config.recipe(),
                            prompts=clean)  # fmt: skip
    judged = workshop.put("judging 2", "judge", fill=rows_into(rows, RESPONSE), responses=answered)
    return {"prompts": clean, "responses": judged}


@pytest.fixture(scope="module")
def said(turn) -> str:
    made: Made = turn("better")
    data = traced(made.workshop)
    html = made.html({"data": tuple(data.values())}, data=tuple(data))
    assert EVIL not in html
    section = html[html.index('<section id="sources">') :]
    return " ".join(re.sub(r"<[^>]+>", " ", section[: section.index("</section>")]).replace("&emsp;", " ").split())


def test_the_page_compares_sources_beside_the_papers_numbers(said: str) -> None:
    assert "real prompts 3 3 2.50 ± 0.29 5.00 ± 0.58" in said
    assert "lmsys_chat 2 2 2.25 ± 0.25" in said and "writing 1 1 2.00 4.00" in said
    assert "synthetic, instruction following 1 0 – –" in said
    assert "of one turn, minus that on real prompts: +0.50 ± 0.65" in said
    assert "“greedy”" in said and "3.24" in said and "3.04" in said


def test_the_page_tells_coverage_and_diversity(said: str) -> None:
    assert (
        "Coverage: all prompts Topics with a prompt: 1; combinations of task, topic and answer format with one: 1."
        in said
    )
    assert "lmsys_chat 0 2" in said and "open_qa 3 2" in said and "writing 2 1" in said
    values = measure_diversity(PROMPTS)
    assert "all prompts" in said.split("Diversity")[1] and f"{values['diversity/distinct_1']:.4g}" in said


def test_without_known_sources_the_page_says_so(turn) -> None:
    assert "could be traced to their prompts" in turn("better").html()
