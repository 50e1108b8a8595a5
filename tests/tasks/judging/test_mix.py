"""The supervised mixes: what goes in, in which proportion, and whether the shares are true."""

import pytest

from infra.errors import EmptyDataset, InputError
from tasks import mix
from tasks.configs.mix import MixConfig
from tasks.rows import DIALOGUE, RESPONSE


@pytest.fixture
def mixed(run_stage, put_rows):
    def make(config=None, **rows):
        schemas = {"judged": RESPONSE}
        inputs = {name: put_rows(name, part, schemas.get(name, DIALOGUE)) for name, part in rows.items()}
        return run_stage(mix.run, config or MixConfig(), **inputs)

    return make


@pytest.fixture
def talks(dialogue):
    return [dialogue(f"question {number}", f"answer {number}") for number in range(40)]


@pytest.fixture
def snippets(dialogue):
    return [dialogue(f"code {number}", f"print({number})", family="code") for number in range(10)]


@pytest.fixture
def judged(response):
    checked = [
        response(f"task {n}", f"right {n}", passed=True, family="instruction", reward=1.0, aid="repair")
        for n in range(12)
    ]
    opened = [response(f"open {n}", f"reply {n} {s}", reward=float(s), sample=s) for n in range(30) for s in range(2)]
    return [*checked, *opened]


def test_shares_count_in_the_whole_set(mixed, talks, snippets, judged):
    artifact = mixed(dialogues=talks, judged=judged, code=snippets)
    parts = artifact.manifest().result["parts"]
    assert parts == {"dialogues": 40, "verified": 12, "human": 0, "replay": 6, "code": 1}
    result = artifact.manifest().result
    assert result["code_share"]["got"] == pytest.approx(1 / 59) and result["replay_share"]["got"] == pytest.approx(
        6 / 59
    )
    assert sum(artifact.manifest().counts[name] for name in artifact.manifest().counts if name != "in") == 40 + 72 + 10


def test_at_least_one_code_row(mixed, talks, snippets):
    assert mixed(dialogues=talks[:3], code=snippets).manifest().result["parts"]["code"] == 1


def test_two_percent_of_a_larger_set(mixed, dialogue, snippets):
    talks = [dialogue(f"q {number}", f"a {number}") for number in range(196)]
    config = MixConfig(replay_share=0.0)
    assert mixed(config, dialogues=talks, code=snippets).manifest().result["parts"]["code"] == 4


def test_missing_code_is_said_and_not_ignored(mixed, talks):
    with pytest.raises(InputError, match=r"code_share is 0\.02"):
        mixed(dialogues=talks)


def test_verified_answers_are_one_per_prompt_own_ones_first(mixed, response):
    own = response("task", "own words", passed=True, sample=3)
    aided = response("task", "repaired words", passed=True, aid="repair")
    failed = response("task", "bad", passed=False, sample=1)
    helped = response("other", "with an aid", passed=True, aid="few_shot")
    artifact = mixed(MixConfig(code_share=0), judged=[aided, failed, own, helped])
    rows = {row["messages"][0]["content"]: row for row in artifact.rows()}
    assert rows["task"]["messages"][1]["content"] == "own words" and rows["task"]["parents"] == [own["id"]]
    assert rows["other"]["messages"] == [*helped["prompt"], {"role": "assistant", "content": "with an aid"}]
    counts = artifact.manifest().counts
    assert counts["dropped:failed"] == 1 and counts["dropped:second_answer"] == 1


def test_replay_takes_the_best_finished_answer(mixed, talks, response):
    rows = [
        response("open", "good", reward=2.0),
        response("open", "better but cut", reward=3.0, finish_reason="length", sample=1),
        response("open", "poor", reward=1.0, sample=2),
    ]
    artifact = mixed(MixConfig(code_share=0), dialogues=talks, judged=rows)
    replayed = [row for row in artifact.rows() if row["messages"][0]["content"] == "open"]
    assert [row["messages"][1]["content"] for row in replayed] == ["good"]
    assert artifact.manifest().counts["dropped:unfinished"] == 1


def test_the_synthetic_share_is_counted_from_the_rows(mixed, talks, dialogue):
    human = [dialogue(f"h {n}", "typed by a person", synthetic=False, generator="") for n in range(10)]
    manifest = mixed(MixConfig(code_share=0), dialogues=talks, human=human).manifest()
    assert manifest.metrics["synthetic_share"] == pytest.approx(0.8)
    assert manifest.result["synthetic"] == {"dialogues": 40, "verified": 0, "human": 0, "replay": 0, "code": 0}


def test_a_code_set_holds_code_only(mixed, talks, snippets):
    artifact = mixed(MixConfig(code_share=1.0, replay_share=0, max_code=7), dialogues=talks, code=snippets)
    assert {row["family"] for row in artifact.rows()} == {"code"} and artifact.manifest().rows == 7


def test_limits_let_families_take_turns(mixed, dialogue):
    rows = [
        dialogue(f"{family} {n}", "x", family=family) for family, many in (("a", 50), ("b", 3)) for n in range(many)
    ]
    artifact = mixed(MixConfig(code_share=0, max_dialogues=6), dialogues=rows)
    assert sorted(row["family"] for row in artifact.rows()) == ["a"] * 3 + ["b"] * 3


def test_the_order_depends_on_the_seed_and_on_nothing_else(mixed, talks):
    orders = [
        [row["id"] for row in mixed(MixConfig(code_share=0, seed=seed, salt=salt), dialogues=talks).rows()]
        for seed, salt in ((0, "a"), (0, "b"), (1, "a"))
    ]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2])
    assert orders[0] != [row["id"] for row in talks]


def test_an_empty_mix_counts_what_was_lost(mixed, response):
    rows = [response("task", "bad", passed=False), response("open", "cut", finish_reason="length", reward=1.0)]
    with pytest.raises(EmptyDataset, match="no row for the mix out of 2: 1 failed, 1 unfinished"):
        mixed(MixConfig(code_share=0), judged=rows)


def test_shares_that_leave_no_room_are_refused():
    with pytest.raises(ValueError, match=r"code_share=0\.5 and replay_share=0\.5"):
        MixConfig(code_share=0.5, replay_share=0.5)
