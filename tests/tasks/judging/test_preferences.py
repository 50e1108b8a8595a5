"""Preference sets: precedence of the judges, rewards that RPO sees, filters with their counts."""

import pytest

from infra.errors import EmptyDataset
from tasks import preferences
from tasks.configs.judging import PreferencesConfig
from tasks.preferences import part_of, similarity
from tasks.rows import PREFERENCE, RESPONSE, make_row


@pytest.fixture
def pairs(run_stage, put, put_rows):
    def make(rows, verdicts=(), given=(), **settings):
        def fill(output):
            output.write_shard(0, rows, RESPONSE)
            output.write_json("llm_verdicts.json", list(verdicts))

        others = {"given": put_rows("given", given, PREFERENCE)} if given else {}
        return run_stage(preferences.run, PreferencesConfig(**settings), judged=put("judged", fill), **others)

    return make


@pytest.fixture
def brought():
    """Pairs of a public data set, without rewards."""

    def make(number):
        messages = {name: [{"role": role, "content": f"{name} {number}"}] for name, role in
                    (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))}  # fmt: skip
        values = {"prompt_id": f"given {number}", "family": "public", "judge": "human", "source": "public",
                  "synthetic": False, "licence": "MIT", **messages}  # fmt: skip
        return make_row(PREFERENCE, values, messages)

    return make


@pytest.fixture
def task(response):
    """A checked answer; the reward model may see it the other way round."""

    def make(prompt, text, passed, reward=0.0, **values):
        return response(prompt, text, passed=passed, reward=reward, family="instruction", **values)

    return make


def said(message_lists):
    return [messages[0]["content"] for messages in message_lists]


def test_truth_goes_first_and_never_takes_the_reward_models_values(pairs, task):
    rows = [task("t", "wrong words but long and pretty", False, reward=9.0), task("t", "right", True, reward=-9.0)]
    (row,) = pairs(rows, truth_gap=3.0).rows()
    assert said([row["chosen"], row["rejected"]]) == ["right", "wrong words but long and pretty"]
    assert (row["chosen_reward"] - row["rejected_reward"], row["judge"]) == (3.0, "ground_truth")
    assert row["parents"] == [rows[1]["id"], rows[0]["id"]]


def test_an_aided_answer_is_chosen_over_the_models_own_failure(pairs, task):
    rows = [
        task("t", "Own Failure", False),
        task("t", "own failure", True, aid="repair", finish_reason="length"),
        task("t", "aided failure", False, aid="few_shot"),
    ]
    artifact = pairs(rows, pairs_per_prompt=5)
    assert said(row["rejected"] for row in artifact.rows()) == ["Own Failure"]
    assert artifact.manifest().result["aided"] == 1


def test_an_own_passing_answer_is_chosen_before_an_aided_one(pairs, task):
    rows = [task("t", "aided", True, aid="repair"), task("t", "own", True), task("t", "bad", False)]
    assert said(row["chosen"] for row in pairs(rows).rows()) == ["own"]


def test_failures_outnumbering_passes_all_find_a_chosen_answer(pairs, task):
    rows = [task("t", "good", True), *[task("t", f"bad {n}", False, sample=n) for n in range(3)]]
    artifact = pairs(rows, pairs_per_prompt=10)
    assert sorted(said(row["rejected"] for row in artifact.rows())) == ["bad 0", "bad 1", "bad 2"]


def test_the_reward_model_never_ranks_what_truth_has_judged(pairs, task, response):
    rows = [task("t", "bad", False, reward=5.0), task("t", "worse", False, reward=1.0),
            response("o", "fine words", reward=3.0), response("o", "other text", reward=1.0, sample=1)]  # fmt: skip
    artifact = pairs(rows, chosen_floor=0.0)
    (row,) = artifact.rows()
    assert (row["judge"], row["chosen_reward"], row["rejected_reward"]) == ("reward_model", 3.0, 1.0)
    assert artifact.manifest().counts == {"in": 2, "kept": 1, "dropped:no_contrast": 1}


@pytest.fixture
def opened(response):
    """Eight open prompts, two answers each; the better ones' rewards are 1..8, the others half of that."""
    return [
        row
        for n in range(1, 9)
        for row in (
            response(f"o{n}", f"best thing number {n}", reward=float(n)),
            response(f"o{n}", f"a weak reply {n}", reward=n / 2, sample=1),
        )
    ]


def test_the_floor_is_strict_for_dpo_and_milder_for_rpo(pairs, opened):
    strict = pairs(opened, chosen_floor=0.75, min_margin=0.0)
    mild = pairs(opened, chosen_floor=0.25, min_margin=0.0, objective="rpo")
    assert min(row["chosen_reward"] for row in strict.rows()) == 4.0
    assert strict.manifest().counts["dropped:below_floor"] == 3
    assert mild.manifest().rows > strict.manifest().rows and mild.manifest().result["objective"] == "rpo"


def test_a_margin_in_standard_deviations(pairs, opened):
    artifact = pairs(opened, chosen_floor=0.0, min_margin=1.0)
    gap = artifact.manifest().result["margin"]
    assert 1.5 < gap < 2.5
    assert all(row["chosen_reward"] - row["rejected_reward"] > gap for row in artifact.rows())
    assert artifact.manifest().counts["dropped:below_margin"] == 8 - artifact.manifest().rows


def test_llm_verdicts_count_where_the_reward_model_sees_no_difference(pairs, response):
    a = [response("p", "first answer text", reward=1.0), response("p", "another reply here", reward=1.0, sample=1)]
    b = [response("q", "first answer text", reward=1.0), response("q", "another reply here", reward=1.0, sample=1)]
    verdicts = [{"winner": a[1]["id"], "loser": a[0]["id"], "consistent": True},
                {"winner": None, "loser": None, "consistent": False}]  # fmt: skip
    artifact = pairs([*a, *b], verdicts, truth_gap=2.5)
    (row,) = artifact.rows()
    assert (row["judge"], said([row["chosen"]])) == ("llm", ["another reply here"])
    assert row["chosen_reward"] - row["rejected_reward"] == 2.5
    assert artifact.manifest().result["judges"] == {"ground_truth": 0, "reward_model": 0, "llm": 1}
    assert artifact.manifest().counts["dropped:below_margin"] == 1


def test_the_llm_does_not_overrule_the_reward_model(pairs, response):
    rows = [response("p", "first answer text", reward=5.0), response("p", "another reply here", reward=1.0, sample=1)]
    verdicts = [{"winner": rows[1]["id"], "loser": rows[0]["id"], "consistent": True}]
    (row,) = pairs(rows, verdicts, chosen_floor=0.0, min_margin=0.1).rows()
    assert (row["judge"], said([row["chosen"]])) == ("reward_model", ["first answer text"])


def test_flawed_pairs_are_dropped_by_reason(pairs, response, task):
    text = "one two three four five six seven eight nine ten"
    rows = [
        response("near", text, reward=5.0), response("near", text + " eleven", reward=1.0, sample=1),
        response("cut", "a long answer that", reward=5.0, finish_reason="length"),
        response("cut", "short reply", reward=1.0, sample=1),
        response("void", "something", reward=5.0), response("void", "  ", reward=1.0, sample=1),
        response("same", "equal", reward=5.0), response("same", "equal", reward=5.0, sample=1),
        task("case", "Nearly The Same Words", False), task("case", "nearly the same words", True, aid="repair"),
    ]  # fmt: skip
    artifact = pairs(rows, chosen_floor=0.0, min_margin=0.0)
    assert artifact.manifest().counts == {
        "in": 5, "kept": 1, "dropped:no_text": 1, "dropped:single_answer": 1, "dropped:too_similar": 1,
        "dropped:truncated": 1,
    }  # fmt: skip
    assert artifact.rows()[0]["family"] == "instruction"


def test_a_limit_lets_judges_take_turns(pairs, opened, task):
    rows = [
        *opened,
        *[task(f"t{n}", text, passed) for n in range(8) for text, passed in (("no", False), ("yes", True))],
    ]
    artifact = pairs(rows, max_pairs=6, chosen_floor=0.0, min_margin=0.0)
    assert artifact.manifest().result["judges"] == {"ground_truth": 3, "reward_model": 3, "llm": 0}
    assert artifact.manifest().counts["dropped:over_limit"] == 10


def test_parts_are_disjoint_and_cover_everything(pairs, opened):
    found = [pairs(opened, chosen_floor=0.0, min_margin=0.0, part=part, parts=3).rows() for part in range(3)]
    prompts = [{row["prompt_id"] for row in rows} for rows in found]
    assert set.union(*prompts) == {f"o{n}" for n in range(1, 9)} and sum(map(len, prompts)) == 8
    assert [part_of(f"o{n}", 1) for n in range(1, 9)] == [0] * 8


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="part=2 of parts=2"):
        PreferencesConfig(part=2, parts=2)


def test_length_balance_and_gap_are_reported(pairs, opened):
    metrics = pairs(opened, chosen_floor=0.0, min_margin=0.0).manifest().metrics
    assert metrics["chosen_words"] == 4 and metrics["rejected_words"] == 4 and metrics["chosen_longer"] == 0.5
    assert metrics["reward_gap_median"] == 2.25 and metrics["synthetic_share"] == 1


def test_no_pair_left_names_the_setting(pairs, response):
    rows = [response("p", "first answer", reward=1.0), response("p", "another reply", reward=0.99, sample=1)]
    with pytest.raises(EmptyDataset, match="no dpo pair is left of 1 prompts: 1 below_margin") as caught:
        pairs(rows, min_margin=10.0)
    assert "min_margin" in caught.value.remedy


def test_similarity_sees_case_and_only_equal_texts_are_one():
    assert similarity("a b", "a b") == 1.0 and similarity("a b", "a  b") < 1
    assert similarity("A B C", "a b c") == 0


def test_prompts_of_the_supervised_side_give_no_pairs(pairs, task):
    rows = [task(f"t {side}", text, text == "good", side=side) for side in ("sft", "preference", "")
            for text in ("good", "bad")]  # fmt: skip
    artifact = pairs(rows)
    assert {row["prompt_id"] for row in artifact.rows()} == {"t preference", "t "}
    assert artifact.manifest().counts == {"in": 3, "kept": 2, "dropped:sft_side": 1}


def test_nothing_but_the_supervised_side_names_the_split(pairs, task):
    with pytest.raises(EmptyDataset, match="1 sft_side") as caught:
        pairs([task("t", "good", True, side="sft"), task("t", "bad", False, side="sft")])
    assert "split_prompts.sft_share" in caught.value.remedy


def test_given_pairs_follow_and_are_counted(pairs, task, brought):
    given = [brought(number) for number in range(5)]
    given.append(brought(5) | {"chosen_reward": 3.5, "rejected_reward": -1.0})
    rows = [task("t", "right", True), task("t", "wrong", False)]
    artifact = pairs(rows, given=given)
    decided = [row | {"chosen_reward": 2.0, "rejected_reward": 0.0} for row in given[:5]]
    assert artifact.rows()[1:] == [*decided, given[5]], "pairs without rewards carry truth_gap, others their own"
    assert artifact.manifest().counts == {"in": 7, "kept": 7}
    result, metrics = artifact.manifest().result, artifact.manifest().metrics
    assert result["given"] == 6 and result["judges"] == {"ground_truth": 1, "reward_model": 0, "llm": 0, "human": 6}
    assert metrics["synthetic_share"] == pytest.approx(1 / 7) and metrics["reward_gap_median"] == 2


def test_given_pairs_are_split_into_parts_too(pairs, task, brought):
    given = [brought(number) for number in range(20)]
    rows = [task("t", "right", True), task("t", "wrong", False)]
    parts = [[row["id"] for row in pairs(rows, given=given, part=part, parts=2).rows()] for part in (0, 1)]
    assert not set(parts[0]) & set(parts[1]) and len(parts[0]) + len(parts[1]) == 21


def test_a_set_may_be_of_given_pairs_alone(pairs, task, brought):
    artifact = pairs([task("t", "wrong", False)], given=[brought(0)])
    assert artifact.manifest().rows == 1 and artifact.manifest().metrics["reward_gap_median"] == 2
