"""Ranges among a config's settings: their values, the candidates they make, and where they are refused."""

import pytest
from pydantic import ValidationError

from deployments.plans import load_plan
from infra.errors import InputError
from tasks.configs.search import Range, candidates, one_value, ranges_of
from tasks.configs.training import PreferenceTuningConfig, SFTConfig
from tasks.training import optimizer_settings

LOW_TO_HIGH = Range(low=1e-5, high=1e-4)


def test_values_are_spread_evenly_by_factor_or_by_difference():
    assert LOW_TO_HIGH.values() == (1e-5, 3.16228e-5, 1e-4)
    assert Range(low=0.001, high=1, points=4).values() == (0.001, 0.01, 0.1, 1.0)
    assert Range(low=0, high=0.4, points=5, scale="linear").values() == (0.0, 0.1, 0.2, 0.3, 0.4)
    assert Range(low=0.1, high=0.3, points=2).values() == (0.1, 0.3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"low": 1e-4, "high": 1e-5}, "expected low below high"),
        ({"low": 1e-4, "high": 1e-4}, "expected low below high"),
        ({"low": 0, "high": 1}, "scale=linear"),
        ({"low": 1, "high": 1.0000001, "points": 9}, "9 points do not fit"),
        ({"low": 1, "high": 2, "points": 1}, "points"),
        ({"low": 1, "high": float("inf")}, "finite"),
        ({"low": 1}, "high"),
    ],
)
def test_a_range_that_spans_nothing_is_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        Range(**values)


def test_a_config_without_ranges_is_as_it_was():
    config = SFTConfig(learning_rate="2e-5")
    assert config.recipe()["learning_rate"] == 2e-5 and ranges_of(config) == {}
    assert candidates(config) == [config]


def test_candidates_are_the_configs_that_plain_values_give():
    config = PreferenceTuningConfig(learning_rate=LOW_TO_HIGH, beta={"low": 0.1, "high": 0.4, "points": 2})
    found = candidates(config)
    rates, betas = (1e-5, 3.16228e-5, 1e-4), (0.1, 0.4)
    assert found == [PreferenceTuningConfig(learning_rate=rate, beta=beta) for rate in rates for beta in betas]
    assert found[0].recipe() == PreferenceTuningConfig(learning_rate=1e-5, beta=0.1).recipe()


def test_too_many_combinations_are_named():
    fine = Range(low=0.1, high=1, points=5)
    with pytest.raises(InputError, match=r"learning_rate \(5\) × beta \(5\) × sft_weight \(5\) makes 125 "):
        candidates(PreferenceTuningConfig(learning_rate=fine, beta=fine, sft_weight=fine))


def test_a_stage_does_not_train_with_a_range():
    assert one_value("beta", 0.1) == 0.1
    with pytest.raises(
        InputError, match=r"learning_rate is a range from 1e-05 to 0\.0001, and a stage trains with one"
    ):
        optimizer_settings(SFTConfig(learning_rate=LOW_TO_HIGH))


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", {"low": -1, "high": 1, "scale": "linear"}), ("sft_weight", -1), ("beta", 0), ("beta", "warm")],
)
def test_bounds_hold_for_numbers_and_for_ranges(name, value):
    with pytest.raises(ValidationError, match=name):
        PreferenceTuningConfig(**{name: value})


def test_a_range_is_written_on_the_command_line():
    change = "general_sft.learning_rate={low: 1e-5, high: 1e-4}"
    assert load_plan("tiny", None, [change]).general_sft.learning_rate == LOW_TO_HIGH
    weights = load_plan("tiny", None, ["preference_tuning.0.sft_weight={low: 0, high: 1, scale: linear, points: 2}"])
    assert ranges_of(weights.preference_tuning[0])["sft_weight"].values() == (0.0, 1.0)
    assert load_plan("tiny", None, [change]).digest() != load_plan("tiny", None, ()).digest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("general_sft.learning_rate={low: 1e-5, hihg: 1e-4}", ["general_sft.learning_rate", "high"]),
        ("general_sft.learning_rate={low: 1e-4, high: 1e-5}", ["general_sft.learning_rate", "low below high"]),
        ("reward_model.learning_rate={low: 1e-5, high: 1e-4}", ["reward_model.learning_rate", "general_sft"]),
        ("controls.sft.learning_rate={low: 1e-5, high: 1e-4}", ["controls.sft.learning_rate", "general_sft"]),
        ("pretraining.main.learning_rate={low: 1e-3, high: 1e-2}", ["pretraining.main.learning_rate"]),
        ("preference_tuning.1.beta={low: 0.1, high: 1, points: 65}", ["preference_tuning.1.beta", "64"]),
    ],
)
def test_a_plan_refuses_what_nothing_could_choose(change, words):
    with pytest.raises(InputError) as error:
        load_plan("tiny", None, [change])
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_plan_that_would_examine_the_sealed_half_searches_nothing():
    with pytest.raises(InputError, match="gate's items must not choose"):
        load_plan("tiny", None, ["dev_exam.half=gate", "general_sft.learning_rate={low: 1e-5, high: 1e-4}"])
