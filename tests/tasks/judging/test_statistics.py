"""The gate's arithmetic against simulations, scipy and enumeration."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from tasks.statistics import (
    bootstrap_gain,
    cluster,
    holm,
    regression_p_value,
    smallest_detectable_gain,
    student_quantile,
)

CONFIDENCE = 0.975


def simulate(rng, n, gain, discordance, clusters, kind_spread=0.0):
    """Differences of n items in clusters whose own gains spread around `gain`, with their keys."""
    owner = np.arange(n) % clusters
    gains = np.clip(gain + rng.normal(0, kind_spread, clusters)[owner], -discordance, discordance)
    draw = rng.random(n)
    up, down = (discordance + gains) / 2, (discordance - gains) / 2
    return np.where(draw < up, 1, np.where(draw < up + down, -1, 0)).tolist(), [str(key) for key in owner]


def promotion_rate(trials, min_gain=0.0, by_row=False, **world):
    rng = np.random.default_rng(7)
    promoted = 0
    for trial in range(trials):
        differences, keys = simulate(rng, **world)
        keys = [str(place) for place in range(len(keys))] if by_row else keys
        result = bootstrap_gain(cluster(differences, keys), confidence=CONFIDENCE, resamples=500, seed=trial)
        promoted += result.lower > 0 and result.gain >= min_gain
    return promoted / trials


@pytest.mark.parametrize("clusters", [7, 24])
def test_equal_models_are_rarely_promoted_even_when_effects_differ_by_kind(clusters):
    world = {"n": 240, "gain": 0.0, "discordance": 0.3, "clusters": clusters, "kind_spread": 0.15}
    assert promotion_rate(400, **world) <= 0.05  # 0.025 promised; two standard errors of 400 trials are 0.016


def test_resampling_rows_would_promote_equal_models_too_often():
    """The trap that clusters avoid; if this fails the simulation has lost its teeth."""
    world = {"n": 240, "gain": 0.0, "discordance": 0.3, "clusters": 7, "kind_spread": 0.15}
    assert promotion_rate(400, by_row=True, **world) > 0.08


@pytest.mark.parametrize(("n", "gain", "power"), [(96, 0.08, 0.44), (240, 0.05, 0.39), (240, 0.08, 0.79)])
def test_power_is_the_measured_one(n, gain, power):
    """Paired binary items at 20 % discordance, independent."""
    assert promotion_rate(300, n=n, gain=gain, discordance=0.2, clusters=n) == pytest.approx(power, abs=0.08)


@pytest.mark.parametrize(("n", "expected"), [(240, 0.08), (630, 0.05)])
def test_smallest_detectable_gain(n, expected):
    differences, keys = simulate(np.random.default_rng(0), n, 0.0, 0.2, n)
    result = bootstrap_gain(cluster(differences, keys), confidence=CONFIDENCE)
    found = smallest_detectable_gain(result, 0.2, confidence=CONFIDENCE, min_gain=0.01)
    assert found == pytest.approx(expected, abs=0.004)


def test_detectable_gain_has_the_power_it_claims():
    rng, n = np.random.default_rng(3), 300
    result = bootstrap_gain(cluster(*simulate(rng, n, 0.0, 0.3, n)), confidence=CONFIDENCE)
    gain = smallest_detectable_gain(result, 0.3, confidence=CONFIDENCE, min_gain=0.01)
    assert promotion_rate(300, n=n, gain=gain, discordance=0.3, clusters=n) == pytest.approx(0.8, abs=0.07)


def test_no_flips_still_leave_a_gain_that_cannot_be_seen():
    result = bootstrap_gain(cluster([0] * 250, [str(i % 25) for i in range(250)]), confidence=CONFIDENCE)
    assert (result.gain, result.lower, result.upper) == (0, 0, 0)
    assert smallest_detectable_gain(result, 0.0, confidence=CONFIDENCE, min_gain=0.01) > 0.02


def test_bounds_agree_with_scipys_bootstrap_for_many_clusters():
    differences, keys = simulate(np.random.default_rng(5), 600, 0.1, 0.4, 600)
    ours = bootstrap_gain(cluster(differences, keys), confidence=CONFIDENCE, resamples=20_000)
    theirs = stats.bootstrap(
        (np.array(differences),), np.mean, confidence_level=0.95, method="percentile"
    ).confidence_interval
    assert (ours.lower, ours.upper) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_resampling_is_seeded_and_unequal_clusters_are_weighted_by_size():
    groups = cluster([1, 1, 1, 0], ["a", "a", "a", "b"])
    assert groups.gain == 0.75
    one, same, other = (bootstrap_gain(groups, confidence=CONFIDENCE, resamples=1000, seed=s) for s in (1, 1, 2))
    assert one == same and one.standard_error != other.standard_error


@pytest.mark.parametrize("degrees", [2, 3, 5, 10, 25, 200])
@pytest.mark.parametrize("probability", [0.95, 0.975])
def test_student_quantile(probability, degrees):
    assert student_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=0.01)


def test_sign_flips_are_exact_for_few_clusters():
    sums = [-3, -1, 2, -2]
    groups = cluster([float(value) for value in sums], list("abcd"))
    flipped = [sum(s * v for s, v in zip(signs, sums, strict=True)) for signs in product((1, -1), repeat=4)]
    exact = np.mean([total <= sum(sums) for total in flipped])
    assert regression_p_value(groups, resamples=100_000) == pytest.approx(exact, abs=0.006)


def test_untouched_family_did_not_regress():
    assert regression_p_value(cluster([0, 0, 0], ["a", "b", "c"])) == 1.0


def test_holm_is_stepwise():
    assert holm([0.03, 0.01, 0.04], 0.05) == [False, True, False]
    assert holm([0.02, 0.01, 0.04], 0.05) == [True, True, True]
    assert holm([], 0.05) == []


@pytest.mark.parametrize(("differences", "keys"), [([], []), ([1.0], [])])
def test_nothing_to_compare_is_refused(differences, keys):
    with pytest.raises(ValueError, match="differences and"):
        cluster(differences, keys)


def test_one_cluster_is_refused():
    with pytest.raises(ValueError, match="needs at least 2"):
        bootstrap_gain(cluster([1, 0], ["a", "a"]), confidence=CONFIDENCE)
