"""The supervised mixes: what goes in, in which proportion, and whether the shares are true."""

import pytest

from infra.errors import EmptyDataset, InputError
from tasks import mix, streams
from tasks.configs.mix import MixConfig
from tasks.pools import in_proportion
from tasks.rows import DIALOGUE, RESPONSE, canonical, row_seed
from tasks.selection import draw


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
    assert parts == {"dialogues": 40, "verified": 12, "human": 0, "sources": 0, "replay": 6, "code": 1}
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
    assert manifest.result["synthetic"] == {
        "dialogues": 40,
        "verified": 0,
        "human": 0,
        "sources": 0,
        "replay": 0,
        "code": 0,
    }


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


def test_the_set_is_that_of_drawing_and_sorting_in_memory(mixed, dialogue, snippets, monkeypatch):
    """Bucket files, places and arrays give what plain lists give, shard after shard."""
    monkeypatch.setattr(streams, "BUCKET_ROWS", 17)
    talks = [dialogue(f"{family} {n}", "x", family=family) for family, many in (("b", 90), ("a", 20), ("c", 40))
             for n in range(many)]  # fmt: skip
    config = MixConfig(code_share=0.05, replay_share=0, max_dialogues=100, seed=3, shard_rows=32)
    artifact = mixed(config, dialogues=talks, code=snippets)
    drawn = [*draw(talks, config.seed, 100), *draw(snippets, config.seed, 5)]
    assert artifact.rows() == sorted(drawn, key=lambda row: row_seed("3", row["id"])) and len(artifact.parts()) == 4


def test_weights_give_exact_counts_and_the_shortest_part_sets_the_size(mixed, talks, dialogue):
    public = [dialogue(f"public {n}", "text", synthetic=False, source="public") for n in range(30)]
    human = [dialogue(f"human {n}", "text", synthetic=False) for n in range(7)]
    config = MixConfig(code_share=0, replay_share=0, weights={"dialogues": 3, "sources": 2.5, "human": 1})
    manifest = mixed(config, dialogues=talks, sources=public, human=human).manifest()
    assert manifest.result["parts"] == {
        "dialogues": 21,
        "verified": 0,
        "human": 7,
        "sources": 17,
        "replay": 0,
        "code": 0,
    }
    assert manifest.result["weights"]["sources"] == {"asked": pytest.approx(2.5 / 6.5), "got": pytest.approx(17 / 45)}
    assert manifest.metrics["synthetic_share"] == pytest.approx(21 / 45)
    assert manifest.counts["dropped:over_limit"] == 77 - 45


def test_code_and_replay_keep_their_shares_beside_weights(mixed, talks, snippets, judged):
    config = MixConfig(weights={"dialogues": 1, "verified": 1}, code_share=0.1, replay_share=0.1)
    parts = mixed(config, dialogues=talks, judged=judged, code=snippets).manifest().result["parts"]
    assert parts == {"dialogues": 12, "verified": 12, "human": 0, "sources": 0, "replay": 3, "code": 3}


@pytest.mark.parametrize(
    "weights", [{"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 0.1, "b": 0.7, "c": 0.2}, {"a": 5, "b": 1 / 3}]
)
def test_counts_are_those_of_the_largest_remainders(weights):
    available = {"a": 11, "b": 50, "c": 1000}
    counts = in_proportion(weights, available)
    total, whole = sum(counts.values()), sum(weights.values())
    assert all(abs(counts[part] - total * weight / whole) < 1 for part, weight in weights.items())
    assert all(counts[part] <= available[part] for part in weights)
    larger = {part: (total + 1) * weight / whole for part, weight in weights.items()}
    assert any(larger[part] > available[part] for part in weights)


def test_a_weighted_part_without_rows_is_said(mixed, talks):
    with pytest.raises(InputError, match=r"mix.weights asks for \['human'\], of which there are no rows"):
        mixed(MixConfig(code_share=0, weights={"dialogues": 1, "human": 1}), dialogues=talks)


@pytest.mark.parametrize("weights", [{"code": 1.0}, {}, {"human": 0.0}, {"human": float("inf")}])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="weights are"):
        MixConfig(weights=weights)


def test_rows_of_data_sets_are_a_part_with_a_limit(mixed, dialogue):
    public = [dialogue(f"public {n}", "text", synthetic=False, teaches="last") for n in range(9)]
    artifact = mixed(MixConfig(code_share=0, max_sources=4), sources=public)
    assert artifact.manifest().result["parts"]["sources"] == 4 and artifact.manifest().metrics["synthetic_share"] == 0
    assert {row["teaches"] for row in artifact.rows()} == {"last"}


def test_answers_to_unsafe_prompts_stay_out(mixed, response):
    rows = [response("flagged", "an answer", reward=9.0, unsafe=True), response("plain", "another answer", reward=1.0)]
    rows += [response(f"more {n}", f"reply {n}", passed=True) for n in range(20)]
    artifact = mixed(MixConfig(code_share=0.0, replay_share=0.2), judged=rows)
    assert artifact.manifest().counts["dropped:unsafe"] == 1
    assert "flagged" not in str(artifact.rows())


def test_answers_to_prompts_of_the_preference_side_stay_out(mixed, response):
    rows = [response(f"task {side}", f"right {side}", passed=True, side=side) for side in ("sft", "preference", "")]
    artifact = mixed(MixConfig(code_share=0), judged=rows)
    assert {row["messages"][0]["content"] for row in artifact.rows()} == {"task sft", "task "}
    assert artifact.manifest().counts["dropped:preference_side"] == 1


def test_an_instruction_for_all_turns_teaches_all_turns_and_other_answers_the_last(mixed, response, dialogue):
    several, single = (
        {"kind": "instruction", "version": 1, "payload": canonical(payload)} for payload in ({"form": "multi_turn"}, {})
    )
    rows = [
        response("several", "one", passed=True, verifier=several),
        response("single", "two", passed=True, verifier=single),
        response("open", "three", reward=1.0, verifier={"kind": "", "version": 0, "payload": ""}),
    ]
    talks = [dialogue(f"talk {n}", "text", teaches="all") for n in range(5)]
    found = {row["messages"][0]["content"]: row["teaches"] for row in
             mixed(MixConfig(code_share=0, replay_share=0.2), judged=rows, dialogues=talks).rows()}  # fmt: skip
    assert found == {"several": "all", "single": "last", "open": "last"} | {f"talk {n}": "all" for n in range(5)}


def test_an_empty_mix_counts_what_was_lost(mixed, response):
    rows = [response("task", "bad", passed=False), response("open", "cut", finish_reason="length", reward=1.0)]
    with pytest.raises(EmptyDataset, match="no row for the mix out of 2: 1 failed, 1 unfinished"):
        mixed(MixConfig(code_share=0), judged=rows)


def test_shares_that_leave_no_room_are_refused():
    with pytest.raises(ValueError, match=r"code_share=0\.5 and replay_share=0\.5"):
        MixConfig(code_share=0.5, replay_share=0.5)
