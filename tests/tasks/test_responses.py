"""The whole stage with models whose answers are known: plain answers, aids, counts, restarts."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from infra.artifacts import Artifact
from infra.errors import EmptyDataset, InputError
from infra.storage import Storage
from tasks import responses
from tasks.configs.base import Resources
from tasks.configs.responses import Responder, ResponsesConfig
from tasks.judges.ground_truth import verifier, verify
from tasks.rows import PROMPT, make_row

GREEDY = Responder(label="greedy", max_tokens=40)
WARM = Responder(label="warm", temperature=0.9, samples=2, open_samples=1, max_tokens=40)
CONFIG = ResponsesConfig(responders=(GREEDY, WARM), shots=1, shard_rows=2)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


EASY, SUM, TEA, RAIN, LOST, RIVERS, SILENT = (
    "What is two and three?", "What is two and four?", "Tell me about tea. Use lower case only.",
    "Quote a line on rain.", "What is the number I think of?", "Why are there rivers?", "Say nothing.",
)  # fmt: skip
LESSONS = [
    ([user(EASY)], "It is 5."),
    ([user(SUM)], "It is 9."),
    ([user(EASY), assistant("It is 5."), user(SUM)], "It is 6."),
    ([user(TEA)], "Tea Is Hot Water."),
    ([user("Tell me about tea.")], "Tea Is A Drink."),
    ([user(RAIN)], "Rain falls on the town."),
    ([user(RAIN), assistant('"')], 'Rain falls on the town."'),
    ([user(LOST)], "It is 8."),
    ([user(EASY), assistant("It is 5."), user(LOST)], "It is 9."),
    ([user(RIVERS)], "Rain runs to the sea."),
    ([user(SILENT)], " "),
]
CHECKS = {
    EASY: ("maths", verifier("number", {"value": "5"})),
    SUM: ("maths", verifier("number", {"value": "6"})),
    LOST: ("maths", verifier("number", {"value": "77"})),
    TEA: ("instruction", verifier("instruction", {"checks": [{"kind": "lower_case", "params": {}}],
                                                  "plain": "Tell me about tea."})),
    RAIN: ("instruction", verifier("instruction", {"checks": [{"kind": "quotes", "params": {}},
                                                               {"kind": "keyword", "params": {"word": "town"}}]})),
    RIVERS: ("open", None),
    SILENT: ("open", None),
}  # fmt: skip


def prompt_row(text: str, family: str = "", check: Mapping[str, Any] | None = None) -> dict[str, Any]:
    found = CHECKS.get(text, (family, check))
    values = {"family": found[0], "topic": "t", "messages": [user(text)], "verifier": found[1], "source": "test",
              "synthetic": False, "generator": "", "licence": "CC-BY-4.0"}  # fmt: skip
    return make_row(PROMPT, values, text)


@pytest.fixture
def prompts(give_rows: Callable[..., Artifact]) -> Artifact:
    return give_rows("prompts", [prompt_row(text) for text in CHECKS], PROMPT)


@pytest.fixture
def generator(teach: Callable[..., Artifact]) -> Artifact:
    return teach("generator", LESSONS)


@pytest.fixture
def made(run_stage: Callable[..., Artifact], prompts: Artifact, generator: Artifact) -> Artifact:
    config = CONFIG.model_copy(update={"aids": ("repair", "few_shot"), "shard_rows": 8})
    return run_stage(responses.run, config, prompts=prompts, generator=generator)


def by_prompt(artifact: Artifact) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in artifact.rows():
        found.setdefault(row["prompt"][0]["content"], []).append(row)
    return found


def test_every_prompt_has_its_answers_with_ground_truths_verdict(made: Artifact, generator: Artifact) -> None:
    found = by_prompt(made)
    assert set(found) == {EASY, SUM, LOST, TEA, RAIN, RIVERS}
    for text in (EASY, RAIN, LOST):
        assert [(row["responder"], row["sample"]) for row in found[text]] == [("greedy", 0), ("warm", 0), ("warm", 1)]
    assert [row["responder"] for row in found[RIVERS]] == ["greedy", "warm"]
    assert [found[text][0]["passed"] for text in (EASY, RAIN, LOST, RIVERS)] == [True, False, False, None]
    row = found[EASY][0]
    assert (row["response"], row["finish_reason"], row["family"]) == ("It is 5.", "stop", "maths")
    assert (row["source"], row["synthetic"], row["generator"]) == ("responses", True, generator.fingerprint)
    assert row["licence"] == "Apache-2.0 AND CC-BY-4.0"
    assert row["parents"] == [row["prompt_id"]] == [prompt_row(EASY)["id"]]
    ids = [row["id"] for rows in found.values() for row in rows]
    assert len(set(ids)) == len(ids)


def test_an_aid_adds_a_passing_answer_and_leaves_no_trace_in_the_prompt(made: Artifact) -> None:
    found = by_prompt(made)
    assert [row["aid"] for row in found[TEA]] == ["", "", "", "repair"]
    assert [row["aid"] for row in found[SUM]] == ["", "", "", "few_shot"]
    assert found[TEA][-1]["response"] == "tea is a drink." and found[SUM][-1]["response"] == "It is 6."
    for row in made.rows():
        assert row["prompt"] == [user(row["prompt"][0]["content"])], "the stored prompt is the asked one, no more"
        assert row["passed"] == verify(row["verifier"], row["response"])
        if row["aid"]:
            assert row["passed"] and row["finish_reason"] == "stop" and row["responder"] == "greedy"


def test_failures_stay_as_rows_to_reject(made: Artifact) -> None:
    for text in (TEA, SUM, LOST, RAIN):
        plain = [row for row in by_prompt(made)[text] if not row["aid"]]
        assert len(plain) == 3 and not any(row["passed"] for row in plain)


def test_prefill_helps_where_it_is_named(
    run_stage: Callable[..., Artifact], prompts: Artifact, generator: Artifact
) -> None:
    config = CONFIG.model_copy(update={"aids": ("prefill",)})
    found = by_prompt(run_stage(responses.run, config, prompts=prompts, generator=generator))
    assert [(row["aid"], row["response"]) for row in found[RAIN][3:]] == [("prefill", '"Rain falls on the town."')]
    assert found[RAIN][3]["prompt"] == [user(RAIN)], "what was begun is no part of the prompt"
    none = CONFIG.model_copy(update={"aids": ()})
    rows = run_stage(responses.run, none, prompts=prompts, generator=generator).rows()
    assert {row["aid"] for row in rows} == {""}


def test_counts_add_up(made: Artifact) -> None:
    counts, rows = made.manifest().counts, made.rows()
    aided = {name: count for name, count in counts.items() if name.startswith("aided:")}
    assert aided == {"aided:repair": 1, "aided:few_shot": 1}
    assert {name: count for name, count in counts.items() if name.startswith("unsolved:")} == {
        "unsolved:instruction": 1, "unsolved:maths": 1,
    }  # fmt: skip
    asked = 5 * 3 + 2 * 2
    dropped = sum(count for name, count in counts.items() if name.startswith("dropped:"))
    assert counts["in"] == 7 and counts["dropped:empty"] == dropped == 2
    assert counts["kept"] == len(rows) == made.manifest().rows == asked - dropped + sum(aided.values())
    table = made.manifest().result["pass_rates"]
    assert table["family:maths"] == {"prompts": 3, "answers": 9, "passed": 3, "solved_plain": 1, "solved": 2}
    assert table["kind:lower_case"] == {"prompts": 1, "answers": 3, "passed": 0, "solved_plain": 0, "solved": 1}
    assert set(table) == {"family:maths", "family:instruction", "kind:number", "kind:lower_case", "kind:quotes+keyword"}
    metrics = made.manifest().metrics
    assert metrics["pass_rate/maths"] == pytest.approx(1 / 3)
    assert metrics["solved_plain/instruction"] == 0 and metrics["solved_aided/instruction"] == 0.5


def remove(store: Storage, artifact: Artifact) -> None:
    for key in store.list(artifact.key):
        store.delete(key)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_restart_gives_the_same_bytes_and_counts(
    run_stage: Callable[..., Artifact], interrupt: Callable[..., None], store: Storage, prompts: Artifact,
    generator: Artifact, shards: int,
) -> None:  # fmt: skip
    inputs = {"prompts": prompts, "generator": generator}
    whole = run_stage(responses.run, CONFIG, **inputs)
    first = whole.manifest()
    remove(store, whole)
    interrupt(responses.run, CONFIG, shards, **inputs)
    again = run_stage(responses.run, CONFIG, **inputs).manifest()
    assert again.sha256() == first.sha256()
    assert (again.counts, again.result, again.rows) == (first.counts, first.result, first.rows)


def test_resources_change_nothing(
    run_stage: Callable[..., Artifact], store: Storage, prompts: Artifact, generator: Artifact
) -> None:
    first = run_stage(responses.run, CONFIG, prompts=prompts, generator=generator)
    sha256 = first.manifest().sha256()
    remove(store, first)
    slow = CONFIG.model_copy(update={"resources": Resources(batch_rows=1)})
    assert run_stage(responses.run, slow, prompts=prompts, generator=generator).manifest().sha256() == sha256


def test_two_models_answer_and_either_can_solve_a_prompt(
    run_stage: Callable[..., Artifact], teach: Callable[..., Artifact], prompts: Artifact, generator: Artifact
) -> None:
    base = teach("base", [([user(text)], "It is 6." if text == SUM else "I do not know.") for text in CHECKS], seed=3,
                 licence="MIT")  # fmt: skip
    config = CONFIG.model_copy(update={"responders": (GREEDY, Responder(label="base", model="base", max_tokens=40))})
    found = by_prompt(run_stage(responses.run, config, prompts=prompts, generator=generator, base=base))
    for text, rows in found.items():
        plain = [row for row in rows if not row["aid"]]
        assert [row["generator"] for row in plain][-1] == base.fingerprint
        assert plain[-1]["licence"] == "CC-BY-4.0 AND MIT"
        assert plain[-1]["response"] == ("It is 6." if text == SUM else "I do not know.")
    assert [(row["aid"], row["passed"]) for row in found[SUM]] == [("", False), ("", True)], (
        "no aid where one solved it"
    )
    assert found[TEA][-1]["aid"] == "repair" and found[TEA][-1]["generator"] == generator.fingerprint
    assert found[TEA][-1]["licence"] == "Apache-2.0 AND CC-BY-4.0"


def test_one_model_under_two_names_is_one_author(
    run_stage: Callable[..., Artifact], prompts: Artifact, generator: Artifact
) -> None:
    """Self-improvement: generator and base are the same weights; every label still has answers of its own."""
    config = CONFIG.model_copy(update={"responders": (GREEDY, Responder(label="base", model="base", max_tokens=40))})
    found = by_prompt(run_stage(responses.run, config, prompts=prompts, generator=generator, base=generator))
    assert Counter(row["responder"] for row in found[EASY]) == {"greedy": 1, "base": 1}


def test_a_repair_of_a_failure_names_its_parent(
    run_stage: Callable[..., Artifact], give_rows: Callable[..., Artifact], generator: Artifact
) -> None:
    check = verifier("instruction", {"checks": [{"kind": "capitals", "params": {}}]})
    prompts = give_rows("capitals", [prompt_row("Why are there rivers?") | {"verifier": check}], PROMPT)
    rows = run_stage(responses.run, CONFIG, prompts=prompts, generator=generator).rows()
    assert rows[-1]["response"] == "RAIN RUNS TO THE SEA." and rows[-1]["aid"] == "repair"
    assert rows[-1]["parents"] == [rows[0]["prompt_id"], rows[0]["id"]]


def test_samples_differ(run_stage: Callable[..., Artifact], prompts: Artifact, generator: Artifact) -> None:
    hot = Responder(label="hot", temperature=3.0, samples=4, open_samples=3, max_tokens=12)
    config = CONFIG.model_copy(update={"responders": (hot, GREEDY), "aids": ()})
    found = by_prompt(run_stage(responses.run, config, prompts=prompts, generator=generator))
    texts = [row["response"] for row in found[EASY] if row["responder"] == "hot"]
    assert len(texts) == len(set(texts)) == 4
    assert sum(row["responder"] == "hot" for row in found[RIVERS]) == 3


def test_a_prompt_that_does_not_fit_is_counted_and_the_rest_answered(
    run_stage: Callable[..., Artifact], give_rows: Callable[..., Artifact], generator: Artifact
) -> None:
    long = prompt_row("word " * 600, "maths", CHECKS[SUM][1])
    prompts = give_rows("one long", [prompt_row(EASY), long], PROMPT)
    made = run_stage(responses.run, CONFIG, prompts=prompts, generator=generator)
    assert set(by_prompt(made)) == {EASY}
    counts = made.manifest().counts
    assert counts == {"in": 2, "kept": 3, "dropped:too_long": 3, "unsolved:maths": 1}


def test_no_answer_at_all_is_an_error_with_the_counts(
    run_stage: Callable[..., Artifact], give_rows: Callable[..., Artifact], generator: Artifact
) -> None:
    long = give_rows("too long", [prompt_row("word " * 600, "open")], PROMPT)
    with pytest.raises(EmptyDataset, match=r"no answers to 1 prompts: .*dropped:too_long 2"):
        run_stage(responses.run, CONFIG, prompts=long, generator=generator)
    with pytest.raises(EmptyDataset, match="no answers to 0 prompts"):
        run_stage(responses.run, CONFIG, prompts=give_rows("none", [], PROMPT), generator=generator)


def test_a_model_that_is_no_input_is_named(
    run_stage: Callable[..., Artifact], prompts: Artifact, generator: Artifact
) -> None:
    config = CONFIG.model_copy(update={"responders": (GREEDY, Responder(label="other", model="basis"))})
    with pytest.raises(InputError, match=r"\['basis'\].*\['generator'\]"):
        run_stage(responses.run, config, prompts=prompts, generator=generator)


def test_families_take_turns_up_to_a_limit() -> None:
    rows = [prompt_row(f"{family} {number}", family) for family in ("a", "b") for number in range(5)]
    chosen = responses.choose(ResponsesConfig(max_per_family=2, seed=1), rows)
    assert [row["family"] for row in chosen] == ["a", "b", "a", "b"]
    assert responses.choose(ResponsesConfig(max_per_family=2, seed=1), rows[::-1]) == chosen
    assert responses.choose(ResponsesConfig(max_per_family=2, seed=2), rows) != chosen
    assert len(responses.choose(ResponsesConfig(), rows)) == 10


@pytest.mark.parametrize(
    ("values", "words"),
    [({"responders": (GREEDY,)}, "at least two"),
     ({"responders": (GREEDY, GREEDY)}, "label of its own"),
     ({"aids": ("magic",)}, "aids"),
     ({"shots": 0}, "shots"),
     ({"responders": ({"label": "x", "samples": 2}, GREEDY)}, "more than one only above temperature 0"),
     ({"responders": ({"label": "x", "samples": 0, "open_samples": 0}, GREEDY)}, "give at least one")],
)  # fmt: skip
def test_wrong_settings_are_explained(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ResponsesConfig(**values)
