import math

import numpy as np
import pytest
from scipy import stats

from experiments.preference_matrix import NAMES, holm, matrix, over_seeds


def row(win_rate, jury="first", noise="1.0", wins=60, losses=40, pair=("RU", "base")):
    names = dict(zip(NAMES, ("traits", jury, noise, *pair), strict=True))
    counts = {"wins": wins, "ties": 10, "losses": losses}
    return {**names, **counts, "win_rate": win_rate, "low": 0.4, "high": 0.9}


def test_holms_correction_has_the_values_of_its_paper():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


def test_an_interval_over_seeds_is_students():
    rates = [0.6, 0.7, 0.65, 0.8, 0.75]
    mean, low, high, p = over_seeds(rates, 100_000)
    expected = stats.ttest_1samp(rates, 0.5)
    ends = expected.confidence_interval()
    assert (mean, low, high) == pytest.approx((np.mean(rates), ends.low, ends.high))
    assert p == pytest.approx(expected.pvalue)


def test_seeds_that_agree_by_chance_do_not_look_certain():
    mean, low, high, p = over_seeds([0.6, 0.6, 0.6], 100)
    half = stats.t.ppf(0.975, 2) * 0.05
    assert (mean, low, high) == pytest.approx((0.6, 0.6 - half, 0.6 + half))
    assert p > 0.05


def test_one_seed_has_its_own_interval_and_no_test():
    (only,) = matrix([row(0.6)])
    assert (only["seeds"], only["low"], only["high"]) == (1, 0.4, 0.9)
    assert math.isnan(only["p"]) and math.isnan(only["p_holm"])


def test_seeds_are_gathered_and_both_juries_corrected_together_at_their_own_noise():
    rates = {"first": (0.7, 0.72, 0.69), "second": (0.6, 0.64, 0.58)}
    rows = [row(rate, jury) for jury, own in rates.items() for rate in own]
    rows += [row(rate, noise="2.0") for rate in (0.6, 0.61, 0.6)]
    first, second, noisy = matrix(rows)
    assert (first["seeds"], first["wins"], first["ties"], first["losses"]) == (3, 180, 30, 120)
    assert first["p_holm"] == pytest.approx(2 * first["p"])
    assert second["p_holm"] == pytest.approx(max(second["p"], 2 * first["p"]))
    assert math.isnan(noisy["p_holm"]) and noisy["win_rate"] == pytest.approx(0.6033, abs=1e-4)


def test_a_seed_without_decided_choices_is_left_out():
    (found,) = matrix([row(0.7), row("", wins=0, losses=0), row(0.8)])
    assert found["seeds"] == 2 and found["win_rate"] == pytest.approx(0.75)
