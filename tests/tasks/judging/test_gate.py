"""The gate's rule on made-up examinations: what promotes, what blocks, what is too little."""

import numpy as np
import pytest

from infra.errors import InputError
from tasks import gate
from tasks.configs.gate import GateConfig
from tasks.evaluate import ANSWER

QUICK = GateConfig(resamples=2000)


@pytest.fixture
def examine(put_rows, tiny_reward_model, answer):
    """Two evaluations from the outcomes (before, after) of numbered items."""

    def make(outcomes, before_values=lambda number: {}, after_values=lambda number: {}, judges=(0, 0)):
        models = {seed: tiny_reward_model(seed) for seed in set(judges)}
        sides = []
        for side, values in ((0, before_values), (1, after_values)):
            rows = [answer(number, pair[side], **values(number)) for number, pair in enumerate(outcomes)]
            sides.append(put_rows(f"side {side}", rows, ANSWER, reward_model=models[judges[side]]))
        return {"generator": sides[0], "candidate": sides[1]}

    return make


def outcomes(n, gained=0.0, lost=0.0, seed=0):
    rng = np.random.default_rng(seed)
    draws = rng.random(n)
    return [
        (False, True) if x < gained else (True, False) if x < gained + lost else (bool(x > 0.6),) * 2 for x in draws
    ]


def verdict(run_stage, inputs, config=QUICK):
    artifact = run_stage(gate.run, config, **inputs)
    return artifact, artifact.manifest().result


def test_a_clear_gain_promotes_and_shows_its_numbers(run_stage, examine):
    artifact, result = verdict(run_stage, examine(outcomes(300, gained=0.25, lost=0.02)))
    assert result["verdict"] == "promote"
    assert result["gain"] == pytest.approx((result["gained"] - result["lost"]) / 300)
    assert result["ci"][0] > 0 and result["n"] == 300 and result["clusters"] == 10
    assert 0.03 < result["smallest_detectable_gain"] < 0.2
    assert artifact.manifest().metrics["gain"] == result["gain"]
    flips = artifact.read_json("flips.json")
    assert len(flips["gained"]) == min(50, result["gained"]) and len(flips["lost"]) == result["lost"]
    assert flips["gained"][0]["generator"] == "answer False" and flips["gained"][0]["candidate"] == "answer True"


def test_equal_models_are_kept_and_the_reason_names_the_blind_spot(run_stage, examine):
    _, result = verdict(run_stage, examine(outcomes(300, gained=0.1, lost=0.1)))
    assert result["verdict"] == "keep"
    assert any("80 % power" in reason for reason in result["reasons"])


def test_few_items_are_insufficient_however_large_the_gain(run_stage, examine):
    _, result = verdict(run_stage, examine(outcomes(199, gained=0.9)))
    assert result["verdict"] == "insufficient" and "199" in result["reasons"][0]


def test_few_kinds_are_insufficient(run_stage, examine):
    values = {"key": "one kind/x"}
    inputs = examine(outcomes(300, gained=0.3), lambda number: values, lambda number: values)
    assert verdict(run_stage, inputs)[1]["verdict"] == "insufficient"


def test_open_items_only_are_insufficient(run_stage, examine):
    _, result = verdict(run_stage, examine([(None, None)] * 300))
    assert (result["verdict"], result["n"], result["gain"]) == ("insufficient", 0, None)


def test_a_gain_below_the_asked_one_is_kept(run_stage, examine):
    config = QUICK.model_copy(update={"min_gain": 0.5})
    _, result = verdict(run_stage, examine(outcomes(300, gained=0.3)), config)
    assert result["verdict"] == "keep" and "asked for +50.0" in result["reasons"][0]


def test_few_kinds_that_carry_the_gain_are_named(run_stage, examine):
    """One kind of ten gains everything: sure over questions, not over kinds."""
    pairs = [(False, True) if number % 10 == 0 else (True, True) for number in range(300)]
    inputs = examine(pairs)
    by_group, by_key = (
        verdict(run_stage, inputs, QUICK.model_copy(update={"cluster_by": by}))[1] for by in ("group", "key")
    )
    assert by_group["verdict"] == "keep" and "few kinds carry the gain" in by_group["reasons"][-1]
    assert by_key["verdict"] == "promote" and by_key["ci"] == by_group["ci_by_key"]


def family_of(number):
    return {"family": "ordinary" if number % 4 == 0 else "instruction", "key": f"kind{number % 20}/{number}"}


def test_a_significant_regression_of_one_family_blocks(run_stage, examine):
    pairs = [
        (True, False) if number % 12 == 0 else (False, True) if number % 4 else (True, True) for number in range(320)
    ]
    _, result = verdict(run_stage, examine(pairs, family_of, family_of))
    assert result["verdict"] == "keep" and result["ci"][0] > 0
    assert result["families"]["ordinary"]["regressed"] and not result["families"]["instruction"]["regressed"]
    assert "ordinary got worse" in result["reasons"][0]


def test_a_small_dip_of_one_family_does_not_block(run_stage, examine):
    pairs = [
        (True, False) if number in (0, 40) else (False, True) if number % 4 else (True, True) for number in range(320)
    ]
    _, result = verdict(run_stage, examine(pairs, family_of, family_of))
    assert result["verdict"] == "promote" and result["families"]["ordinary"]["gain"] < 0


def open_half(shift):
    def values(number):
        return {"family": "open", "reward": shift + (number % 7) / 10} if number >= 300 else {}

    return values


def test_the_reward_model_may_veto(run_stage, examine):
    gaining = [*outcomes(300, gained=0.3), *[(None, None)] * 40]
    inputs = examine(gaining, open_half(1.0), open_half(0.0))
    vetoed = verdict(run_stage, inputs)[1]
    assert vetoed["verdict"] == "keep" and vetoed["win_rate"]["gain"] == 0 and "veto" in vetoed["reasons"][0]
    without = QUICK.model_copy(update={"veto_win_rate": None})
    assert verdict(run_stage, inputs, without)[1]["verdict"] == "promote"


def test_rewards_never_promote(run_stage, examine):
    _, result = verdict(run_stage, examine([*outcomes(300), *[(None, None)] * 40], open_half(0.0), open_half(9.0)))
    assert result["verdict"] == "keep" and result["win_rate"]["gain"] == 1


def test_equal_rewards_are_ties(run_stage, examine):
    _, result = verdict(run_stage, examine([*outcomes(300), *[(None, None)] * 40], open_half(1.0), open_half(1.0)))
    assert result["win_rate"]["gain"] == 0.5


def test_rewards_of_two_reward_models_are_not_compared(run_stage, examine):
    inputs = examine([*outcomes(300), *[(None, None)] * 40], open_half(1.0), open_half(0.0), judges=(0, 1))
    result = verdict(run_stage, inputs)[1]
    assert result["win_rate"] is None


def test_a_veto_without_rewards_is_shown(run_stage, examine):
    _, result = verdict(run_stage, examine(outcomes(300, gained=0.3)))
    assert result["verdict"] == "promote" and "no say" in result["reasons"][-1]


def test_different_items_are_refused(run_stage, put_rows, answer):
    before = put_rows("before", [answer(number, True) for number in range(5)], ANSWER)
    after = put_rows("after", [answer(number, True) for number in range(1, 6)], ANSWER)
    with pytest.raises(InputError, match=r"not paired.*1 items only the generator answered"):
        run_stage(gate.run, QUICK, candidate=after, generator=before)


def test_an_item_answered_twice_is_refused(run_stage, put_rows, answer):
    before = put_rows("before", [answer(0, True), answer(1, True)], ANSWER)
    after = put_rows("after", [answer(0, True), answer(1, True), answer(1, False)], ANSWER)
    with pytest.raises(InputError, match="2 and 3 answers"):
        run_stage(gate.run, QUICK, candidate=after, generator=before)


def test_the_development_half_is_refused(run_stage, put_rows, answer):
    rows = put_rows("dev", [answer(0, True, half="dev")], ANSWER)
    with pytest.raises(InputError, match="sealed half"):
        run_stage(gate.run, QUICK, candidate=rows, generator=rows)


def test_items_that_one_check_could_not_judge_are_left_out_and_counted(run_stage, examine):
    pairs = [*outcomes(300, gained=0.3), (None, True), (True, None)]
    result = verdict(run_stage, examine(pairs))[1]
    assert (result["n"], result["unjudged"]) == (300, 2)
