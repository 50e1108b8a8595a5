"""Judging with real models: every row scored, the sample of the LLM, the agreement table."""

import pytest

from infra.errors import EmptyDataset
from models.reward import RewardScorer, load_reward_model, scalar_reward
from tasks import judge
from tasks.configs.judging import JudgingConfig
from tasks.judge import pairs_of
from tasks.judges.base import GroundTruthJudge, Pair, Verdict, agreement, length_bias
from tasks.judges.reward import RewardJudge
from tasks.rows import ATTRIBUTES, RESPONSE


@pytest.fixture
def answers(response):
    """Six open prompts with two answers, four checked ones with a pass and a failure, one without a second answer."""
    opened = [response(f"open {n}", f"reply {s} to {n} " + "so " * s, sample=s) for n in range(6) for s in range(2)]
    checked = [
        response(f"task {n}", f"{'good' if passed else 'bad'} {n}", passed=passed, family="maths")
        for n in range(4)
        for passed in (True, False)
    ]
    return [*opened, *checked, response("lonely", "one answer")]


@pytest.fixture
def inputs(put_rows, answers, tiny_model, tiny_reward_model):
    rows = put_rows("responses", answers, RESPONSE)
    return {"responses": rows, "reward_model": tiny_reward_model(), "generator": tiny_model()}


def test_every_answer_is_scored_as_the_reward_model_scores_it(run_stage, inputs, answers):
    artifact = run_stage(judge.run, JudgingConfig(shard_rows=5, llm_pairs=3, llm_truth_pairs=2), **inputs)
    rows = artifact.rows()
    assert [row["id"] for row in rows] == [row["id"] for row in answers] and len(artifact.parts()) == 5
    scorer = RewardScorer(*load_reward_model(inputs["reward_model"].folder()))
    for row in rows[::7]:
        (values,) = scorer.score([[*row["prompt"], {"role": "assistant", "content": row["response"]}]])
        assert [row[name] for name in ATTRIBUTES] == pytest.approx(values, rel=1e-5)
        assert row["reward"] == pytest.approx(scalar_reward(values), rel=1e-5)


def test_checked_answers_are_scored_for_as_many_prompts_as_asked(run_stage, inputs):
    rows = run_stage(judge.run, JudgingConfig(truth_prompts=2, llm_pairs=0, llm_truth_pairs=0), **inputs).rows()
    scored = {row["prompt_id"] for row in rows if row["passed"] is not None and row["reward"] is not None}
    assert len(scored) == 2 and all(row["reward"] is not None for row in rows if row["passed"] is None)
    unscored = [row for row in rows if row["reward"] is None]
    assert len(unscored) == 4 and {row[name] for row in unscored for name in ATTRIBUTES} == {None}


def test_the_report_says_how_far_each_judge_can_be_trusted(run_stage, inputs):
    artifact = run_stage(judge.run, JudgingConfig(llm_pairs=3, llm_truth_pairs=2), **inputs)
    report, verdicts = artifact.read_json("judges.json"), artifact.read_json("llm_verdicts.json")
    assert report["judges"]["llm"]["pairs"] == len(verdicts) == 5
    assert report["judges"]["ground_truth"] == {"pairs": 10, "decided": 4}
    assert report["agreement"]["ground_truth/reward_model"]["all"]["pairs"] == 4
    assert set(report["agreement"]["ground_truth/reward_model"]) == {"all", "maths"}
    consistent = sum(verdict["consistent"] for verdict in verdicts)
    assert report["judges"]["llm"]["flip_rate"] == pytest.approx(1 - consistent / 5)
    assert artifact.manifest().metrics["passed_share"] == 0.5
    for verdict in verdicts:
        assert {verdict["winner"], verdict["loser"]} == ({verdict["first"], verdict["second"]}
                                                         if verdict["consistent"] else {None})  # fmt: skip


def test_no_llm_pairs_leave_an_empty_judge_that_shows(run_stage, inputs):
    artifact = run_stage(judge.run, JudgingConfig(llm_pairs=0, llm_truth_pairs=0), **inputs)
    assert artifact.read_json("llm_verdicts.json") == []
    assert artifact.read_json("judges.json")["judges"]["llm"] == {"pairs": 0, "too_long": 0}
    assert "llm_flip_rate" not in artifact.manifest().metrics


def test_several_responses_artifacts_are_judged_as_one(run_stage, put_rows, inputs, answers):
    halves = (put_rows("one", answers[:7], RESPONSE), put_rows("two", answers[7:], RESPONSE))
    artifact = run_stage(judge.run, JudgingConfig(llm_pairs=0, llm_truth_pairs=0), **inputs | {"responses": halves})
    assert artifact.manifest().rows == len(answers)


def test_nothing_to_judge(run_stage, put_rows, inputs):
    with pytest.raises(EmptyDataset, match="no answer to judge"):
        run_stage(judge.run, JudgingConfig(), **inputs | {"responses": put_rows("none", [], RESPONSE)})


def test_pairs_have_different_answers_and_truths(response):
    same = [response("p", "twin"), response("p", "twin", sample=1)]
    agreed = [response("q", "a", passed=True), response("q", "b", passed=True)]
    split = [response("r", "a", passed=True), response("r", "b", passed=False)]
    opened = [response("s", "a"), response("s", "b")]
    found, checked = pairs_of([*same, *agreed, *split, *opened], seed=0)
    assert [pair.first["prompt_id"] for pair in found] == ["s"]
    assert [{pair.first["passed"], pair.second["passed"]} for pair in checked] == [{True, False}]


def test_seats_are_drawn(response):
    rows = [response(f"p{n}", text) for n in range(60) for text in ("good", "bad")]
    firsts = [pair.first["response"] for pair in pairs_of(rows, seed=0)[0]]
    assert 15 < firsts.count("good") < 45 and firsts != [pair.first["response"] for pair in pairs_of(rows, seed=1)[0]]


def test_truth_and_reward_verdicts(response):
    right, wrong = response("p", "r", passed=True, reward=1.0), response("p", "w", passed=False, reward=1.4)
    pairs = [Pair(right, wrong), Pair(wrong, right), Pair(right, right)]
    truth = GroundTruthJudge(JudgingConfig(), pytest.fail).compare(pairs)
    assert [verdict.choice for verdict in truth] == ["first", "second", None]
    sure, careful = (RewardJudge(JudgingConfig(min_margin=m), pytest.fail).compare(pairs) for m in (0.0, 0.5))
    assert [verdict.choice for verdict in sure] == ["second", "first", None]
    assert [verdict.choice for verdict in careful] == [None] * 3
    assert agreement(truth, sure) == {"pairs": 2, "agree": 0.0} and agreement(truth, careful)["agree"] is None


def test_length_bias_looks_at_unequal_lengths(response):
    long, short = response("p", "one two three"), response("p", "one")
    pairs = [Pair(long, short), Pair(short, long), Pair(long, long), Pair(long, short)]
    verdicts = [Verdict("first"), Verdict("first"), Verdict("first"), Verdict(None)]
    assert length_bias(pairs, verdicts) == {"pairs": 2, "longer_wins": 0.5}
