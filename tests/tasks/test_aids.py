"""Each aid with a model whose answers are known: what it asks, what it makes of the answer, and who comes first."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import Artifact
from infra.output import Output
from infra.storage import Storage
from models.checkpoint import load_model
from models.engine import Engine, SamplingParams
from tasks import aids
from tasks.aids import AIDS, Bench, Case, Example, help_out, subject
from tasks.configs.responses import ResponsesConfig
from tasks.generation import Writer
from tasks.judges.ground_truth import verifier, verify
from tasks.prompts.instructions import KINDS
from tasks.rows import PROMPT, make_row

GREEDY = SamplingParams(temperature=0.0, max_tokens=24)
SUM = "What is two and four?"
OTHER_SUM = "What is two and three?"
TEA = "Tell me about tea. Use lower case only."
RAIN = "Quote a line on rain."
SNOW = "Quote a line on snow."


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def instruct(*kinds: str, plain: str = "", draft: str = "", start: str = "", **params: Any) -> dict[str, Any]:
    payload: dict[str, Any] = {"checks": [{"kind": kind, "params": params} for kind in kinds]}
    told = {"plain": plain, "draft": draft, "start": start}
    return verifier("instruction", payload | {name: text for name, text in told.items() if text})


def prompt_row(text: str, check: Mapping[str, Any]) -> dict[str, Any]:
    values = {"family": "f", "topic": "t", "messages": [user(text)], "verifier": check, "source": "test",
              "synthetic": True, "generator": "", "licence": "CC0-1.0"}  # fmt: skip
    return make_row(PROMPT, values, text)


def failure(text: str) -> dict[str, Any]:
    return {"id": f"id of {text}", "response": text}


LESSONS: list[tuple[list[dict[str, str]], str]] = [
    ([user(SUM)], "It is 9."),
    ([user(OTHER_SUM), assistant("It is 5."), user(SUM)], "It is 6."),
    ([user("Tell me about tea.")], "Tea Is A Drink. It is hot."),
    ([user(RAIN)], "Rain falls on the town."),
    ([user(RAIN), assistant('"')], 'Rain falls on the town."'),
    (
        [user(SNOW), assistant('"')],
        '"Snow falls on the town, on all the green hills around it, on the river bank and on the bridge."',
    ),
]


@pytest.fixture
def bench(taught_folder: Callable[..., Path], store: Storage, tmp_path: Path) -> Bench:
    engine = Engine(*load_model(taught_folder(LESSONS)))
    artifact = Artifact(stage="made", kind="dataset", fingerprint="ab" * 16, store=store.uri)
    return Bench(Writer(engine, Output(artifact, store, lambda event: None, tmp_path)), GREEDY, 2, {})


def test_every_aid_of_the_settings_is_there() -> None:
    assert set(ResponsesConfig().aids) == set(AIDS) and ResponsesConfig().aids[0] == "repair"


def test_a_subject_is_what_the_verifier_checks() -> None:
    assert subject(prompt_row(TEA, instruct("lower_case", "no_commas"))) == "lower_case+no_commas"
    assert subject(prompt_row(SUM, verifier("number", {"value": "6"}))) == "number"


def test_repair_changes_an_answer_to_the_request_without_its_instruction(bench: Bench) -> None:
    row = prompt_row(TEA, instruct("lower_case", plain="Tell me about tea."))
    ((aid, helped),) = help_out(["repair"], bench, [Case(row, [failure("TEA")])]).values()
    assert (aid, helped.text, helped.finish_reason) == ("repair", "tea is a drink. it is hot.", "stop")
    assert helped.parents == (), "it comes from the plain answer, not from the failure"


def test_repair_falls_back_on_the_own_failures_in_order(bench: Bench) -> None:
    row = prompt_row(TEA, instruct("lower_case"))
    failures = [failure("TEA"), failure("Tea Is A Leaf."), failure("Tea Is Hot Water.")]
    ((_, helped),) = help_out(["repair"], bench, [Case(row, failures)]).values()
    assert helped.text == "tea is a leaf." and helped.parents == ("id of Tea Is A Leaf.",)


def test_repair_starts_from_the_answer_to_revise_and_asks_for_no_other(bench: Bench) -> None:
    draft = "Tea Is A Leaf. It is green."
    row = prompt_row(TEA, instruct("lower_case", plain="Tell me about tea.", draft=draft))
    ((_, helped),) = help_out(["repair"], bench, [Case(row, [failure("TEA")])]).values()
    assert helped.text == draft.lower() and helped.parents == () and bench.writer.tokens == 0


def test_repair_goes_on_to_a_plain_answer_where_the_draft_cannot_be_changed(bench: Bench) -> None:
    row = prompt_row(TEA, instruct("two_parts", plain="Tell me about tea.", draft="Tea is only one sentence here."))
    other = prompt_row(RAIN, instruct("lower_case", draft="Rain Falls on the town."))
    first, second = aids.repair_by_code(bench, [Case(row, []), Case(other, [])])
    assert first and first.text == "Tea Is A Drink.\n***\nIt is hot."
    assert second and second.text == "rain falls on the town."


def test_repair_leaves_alone_what_code_cannot_change(bench: Bench) -> None:
    sums = prompt_row(SUM, verifier("number", {"value": "6"}))
    words = prompt_row(TEA, instruct("lower_case"))
    cases = [Case(sums, [failure("It is 9.")]), Case(words, []), Case(words, [failure("Tea."), failure("  ")])]
    assert aids.repair_by_code(bench, cases) == [None, None, None]


def test_examples_are_of_the_same_subject_and_never_the_prompt_itself(bench: Bench) -> None:
    row = prompt_row(SUM, verifier("number", {"value": "6"}))
    solved = Example(prompt_row(OTHER_SUM, verifier("number", {"value": "5"})), "It is 5.")
    bench.solved["number"] = [Example(row, "It is 6."), solved]
    ((aid, helped),) = help_out(["few_shot"], bench, [Case(row, [])]).values()
    assert (aid, helped.text) == ("few_shot", "It is 6.")
    bench.solved["number"] = [Example(row, "It is 6.")]
    bench.solved["exact"] = [solved]
    assert help_out(["few_shot"], bench, [Case(row, [])]) == {}


def test_an_answer_that_ground_truth_fails_helps_nobody(bench: Bench) -> None:
    solved = Example(prompt_row(OTHER_SUM, verifier("number", {"value": "5"})), "It is 5.")
    bench.solved["number"] = [solved]
    row = prompt_row(SUM, verifier("number", {"value": "7"}))
    (helped,) = AIDS["few_shot"](bench, [Case(row, [])])
    assert helped is not None and helped.text == "It is 6."
    assert help_out(["few_shot"], bench, [Case(row, [])]) == {} and bench.solved["number"] == [solved]


def test_examples_stop_at_the_number_of_shots() -> None:
    check = verifier("number", {"value": "5"})
    solved = [Example(prompt_row(f"Sum {number}", check), f"{number}") for number in range(5)]
    shown = aids._examples(solved, 2, prompt_row(SUM, check))
    assert shown == [user("Sum 0"), assistant("0"), user("Sum 1"), assistant("1"), user(SUM)]


def test_a_begun_answer_is_gone_on_with(bench: Bench) -> None:
    row = prompt_row(RAIN, instruct("quotes"))
    ((aid, helped),) = help_out(["prefill"], bench, [Case(row, [])]).values()
    assert (aid, helped.text) == ("prefill", '"Rain falls on the town."')


def test_a_start_that_the_prompt_gives_comes_before_that_of_its_kinds(bench: Bench) -> None:
    told = prompt_row(RAIN, instruct("quotes", start="[begun] "))
    assert aids._beginning(told) == "[begun] "
    assert (
        aids._beginning(prompt_row(RAIN, verifier("contains", {"any": ["I can't"], "start": "I'm sorry"})))
        == "I'm sorry"
    )
    assert aids._beginning(prompt_row(RAIN, instruct("no_commas", "json", key="reply"))) == '{"reply": "'
    assert aids._beginning(prompt_row(RAIN, instruct("no_commas"))) == ""


def test_an_answer_that_ran_into_the_limit_helps_nobody(bench: Bench) -> None:
    row = prompt_row(SNOW, instruct("no_commas", "quotes"))
    (helped,) = aids.begin_answer(bench, [Case(row, [])])
    assert helped is not None and helped.finish_reason == "length" and helped.text.startswith('""Snow falls')
    passing = prompt_row(SNOW, instruct("start_phrase", phrase='"'))
    assert (
        verify(passing["verifier"], '""Snow falls on the') and help_out(["prefill"], bench, [Case(passing, [])]) == {}
    )


def test_aids_are_tried_in_order_and_a_success_becomes_an_example(bench: Bench) -> None:
    """A later aid only sees what earlier ones left; what none can help is left out."""
    tea = prompt_row(TEA, instruct("lower_case", plain="Tell me about tea."))
    rain = prompt_row(RAIN, instruct("quotes"))
    lost = prompt_row("Nobody knows this.", verifier("number", {"value": "77"}))
    cases = [Case(tea, []), Case(rain, []), Case(lost, [])]
    found = help_out(["repair", "few_shot", "prefill"], bench, cases)
    assert {key: aid for key, (aid, _) in found.items()} == {tea["id"]: "repair", rain["id"]: "prefill"}
    assert [example.answer for example in bench.solved["lower_case"]] == ["tea is a drink. it is hot."]
    assert [example.prompt["id"] for example in bench.solved["quotes"]] == [rain["id"]]
    rain_repaired = prompt_row(RAIN, instruct("quotes", plain=RAIN))
    assert help_out(["prefill", "repair"], bench, [Case(rain_repaired, [])])[rain_repaired["id"]][0] == "prefill"
    assert help_out(["repair", "prefill"], bench, [Case(rain_repaired, [])])[rain_repaired["id"]][0] == "repair"


def test_nothing_to_help_asks_nothing(bench: Bench) -> None:
    assert help_out(["repair", "few_shot", "prefill"], bench, []) == {}
    assert bench.writer.tokens == 0


PARAMS = {
    "json": {"key": "summary"}, "start_phrase": {"phrase": "In short,"}, "sections": {"marker": "Part", "n": 1},
    "repeat_request": {"request": "Is it raining?"},
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(aids._PREFILLS))
def test_a_beginning_is_one_that_a_passing_answer_has(kind: str) -> None:
    """Repaired answers of each kind begin as the prefill does, so going on from it can pass."""
    assert kind in KINDS
    params = PARAMS.get(kind) or {"n": 1}
    check = {"kind": kind, "params": params}
    begun = aids._PREFILLS[kind](params)
    endings = {
        "quotes": 'Rain falls here."', "json": 'Rain falls here."}', "title": "Rain>>\nIt falls on the town.",
        "square_brackets": "Rain falls here.]", "answer_tags": "Rain falls here.</answer>",
        "start_phrase": " rain falls here.", "bullets": "Rain falls here.", "numbered": "Rain falls here.",
        "quoted_lines": "Rain falls here.", "highlight": "Rain** falls on the town.",
        "code_block": "Rain falls here.\n```", "heading": "Rain\nIt falls here.", "steps": "Rain falls here.",
        "sections": "Rain falls here.", "repeat_request": "Rain falls here.",
    }  # fmt: skip
    assert verify(verifier("instruction", {"checks": [check]}), begun + endings[kind]), begun + endings[kind]
    assert not verify(verifier("instruction", {"checks": [check]}), "Rain falls on the town")
