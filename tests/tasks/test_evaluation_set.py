"""The evaluation set is fixed, balanced, checkable, and its halves share nothing that was asked."""

import json
from collections import Counter
from itertools import pairwise

import pytest
from pydantic import ValidationError

from infra.errors import InputError
from tasks import evaluation_set
from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.evaluation_items import curated, evaluation_topics, halve
from tasks.judges.ground_truth import verify
from tasks.prompts import instructions
from tasks.prompts.arithmetic import SOLVE

CONFIG = EvaluationSetConfig()


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [*evaluation_set.half_rows(CONFIG, "dev"), *evaluation_set.half_rows(CONFIG, "gate")]


def in_half(rows: list[dict], half: str, family: str = "") -> list[dict]:
    return [row for row in rows if row["half"] == half and family in ("", row["family"])]


def test_the_stage_writes_the_same_artifact_twice(run_stage, store) -> None:
    made = run_stage(evaluation_set.run, CONFIG)
    first = made.read_bytes("part-00000.parquet")
    made.quarantine("make it again")
    assert run_stage(evaluation_set.run, CONFIG).read_bytes("part-00000.parquet") == first
    assert made.manifest().metrics["gate_items_with_truth"] >= 240


def test_sizes_are_those_asked_for(rows: list[dict]) -> None:
    for half, wanted in (("dev", CONFIG.dev), ("gate", CONFIG.gate)):
        assert Counter(row["family"] for row in in_half(rows, half)) == wanted
    judged = Counter(row["family"] for row in in_half(rows, "gate") if row["verifier"])
    assert judged["instruction"] >= 150 and judged["held_out_instruction"] >= 40 and judged["ordinary"] >= 50
    assert len({row["id"] for row in rows}) == len(rows)


def test_halves_share_no_key_and_no_topic(rows: list[dict]) -> None:
    keys = [{row["key"] for row in in_half(rows, half)} for half in ("dev", "gate")]
    assert not keys[0] & keys[1]
    asked = [asked_about(rows, half) for half in ("dev", "gate")]
    assert asked[0] and asked[1] and not asked[0] & asked[1]


def asked_about(rows: list[dict], half: str) -> set[str]:
    """Topics that the half's instruction items ask about, whatever the wording."""
    texts = [row["messages"][0]["content"] for row in in_half(rows, half) if "instruction" in row["family"]]
    requests = {
        topic: [request.format(topic=topic) for request in curated("requests")] for topic in evaluation_topics()
    }
    return {topic for topic, asked in requests.items() if any(request in text for request in asked for text in texts)}


def test_kinds_have_equal_shares_and_held_out_ones_stay_apart(rows: list[dict]) -> None:
    for family, kinds in (("instruction", CONFIG.trained_kinds), ("held_out_instruction", CONFIG.held_out_kinds)):
        for half in ("dev", "gate"):
            shares = Counter(row["key"].split("/")[0] for row in in_half(rows, half, family))
            assert set(shares) == set(kinds) and max(shares.values()) - min(shares.values()) <= 1


def test_truth_can_be_met_and_missed(rows: list[dict]) -> None:
    for row in rows:
        if row["verifier"] is None:
            assert row["family"] == "open"
            continue
        payload = json.loads(row["verifier"]["payload"])
        answers = payload.get("any") or [payload.get("value")]
        if row["verifier"]["kind"] == "instruction":
            plain = "One thing is old. Another is new. A third one is here. Four are enough."
            answers = [instructions.repair(payload["checks"], plain) or f"It is {payload['checks'][0]['params']}"]
        assert verify(row["verifier"], answers[0]) is True, row
        assert verify(row["verifier"], "") is False
        assert verify(row["verifier"], row["messages"][0]["content"]) is False or row["family"] in LOOSE, row


LOOSE = {"instruction", "held_out_instruction"}
"""A request may itself use the word or the marks that it asks for."""


def test_maths_answers_are_what_the_operation_says(rows: list[dict]) -> None:
    for row in rows:
        if row["family"] == "maths":
            operation, numbers = row["key"].split("/")
            a, b = (int(number) for number in numbers.split())
            assert str(a) in row["messages"][0]["content"] and str(b) in row["messages"][0]["content"]
            assert json.loads(row["verifier"]["payload"]) == {"value": str(SOLVE[operation](a, b))}
            assert a > b and SOLVE[operation](a, b) > 0 and (operation != "share" or a % b == 0)


def test_no_question_holds_its_own_answer() -> None:
    for questions in curated("ordinary").values():
        for question, *aliases in questions:
            if aliases[0] != "number":
                assert not any(verify_contains(alias, question) for alias in aliases), question
    assert sum(len(questions) for questions in curated("ordinary").values()) >= 80


def verify_contains(alias: str, text: str) -> bool:
    return bool(verify({"kind": "contains", "version": 1, "payload": json.dumps({"any": [alias]})}, text))


def test_halving_is_stable_and_gives_both_something() -> None:
    keys = [f"key {number}" for number in range(40)]
    assert halve(keys, "dev") == halve(reversed(keys), "dev")
    assert sorted(halve(keys, "dev") + halve(keys, "gate")) == sorted(keys)
    assert [len(halve(keys[:count], "dev")) for count in (2, 4, 40)] == [1, 1, 10]


def test_topics_are_curated_once_each() -> None:
    assert all(before != after for before, after in pairwise(sorted(topic.casefold() for topic in evaluation_topics())))


def test_seed_is_fixed_and_kinds_are_checked() -> None:
    with pytest.raises(ValidationError):
        EvaluationSetConfig(seed=1)
    with pytest.raises(ValidationError, match="both trained and held out"):
        EvaluationSetConfig(held_out_kinds=("json",))
    with pytest.raises(ValidationError, match="haiku"):
        EvaluationSetConfig(held_out_kinds=("haiku",))


def test_too_many_items_name_the_most_there_are() -> None:
    with pytest.raises(InputError, match=r"asked for 900.*evaluation_set.gate.ordinary"):
        evaluation_set.half_rows(EvaluationSetConfig(gate={"ordinary": 900}), "gate")
    with pytest.raises(InputError, match=r"'?trivia.*ordinary"):
        evaluation_set.half_rows(EvaluationSetConfig(gate={"trivia": 1}), "gate")
