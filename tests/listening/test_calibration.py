import jax
import numpy as np
import pytest

from mammadai_jax.agents import reward_model
from mammadai_jax.listening import calibration
from tests.agents.table import Table, drawn


def answers(random, pairs=50_000):
    """True probabilities (N, 3) and choices by them."""
    difference = random.normal(size=pairs) * 2
    share = np.stack([np.exp(difference / 2), np.full(pairs, 0.5), np.exp(-difference / 2)], axis=1)
    share /= share.sum(axis=1, keepdims=True)
    choice = 1 - (random.random((pairs, 1)) > share.cumsum(axis=1)[:, :2]).sum(axis=1)
    return share, choice


def test_report_by_hand():
    probabilities = np.array(
        [[0.6, 0.2, 0.2], [0.1, 0.5, 0.4], [0.3, 0.4, 0.3], [0.1, 0.8, 0.1], [0.7, 0.1, 0.2]]
    )
    found = calibration.report(probabilities, np.array([1, -1, 1, 0, -1]), ceiling=0.75)
    assert (found.pairs, found.decided) == (5, 4)
    assert found.accuracy == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert found.accuracy_ties_half == pytest.approx((1 + 1 + 0.5 + 0.5 + 0) / 5)
    assert found.log_loss == pytest.approx(-np.log([0.75, 0.8, 0.5, 2 / 9]).mean(), abs=1e-6)
    assert found.ties == pytest.approx(0.2)
    assert found.ties_predicted == pytest.approx(0.4)
    assert found.share_of_ceiling == pytest.approx(0.625 / 0.75)
    # P(a): 0.75 and 0.778 share a bin (one was a), 0.2 (b) and 0.5 (a) have their own
    errors = 2 * abs(0.5 - (0.75 + 7 / 9) / 2) + 0.2 + 0.5
    assert found.calibration_error == pytest.approx(errors / 4)
    assert sorted(part.pairs for part in found.bins) == [1, 1, 2]


def test_the_truth_is_calibrated_and_reaches_the_ceiling(random):
    truth, choice = answers(random)
    prefers_a = truth[:, 0] / (truth[:, 0] + truth[:, 2])
    found = calibration.report(truth, choice, calibration.ceiling_of(prefers_a[choice != 0]))
    assert found.calibration_error < 0.01
    assert found.share_of_ceiling == pytest.approx(1.0, abs=0.01)
    assert found.ties == pytest.approx(found.ties_predicted, abs=0.01)
    entropy = -(prefers_a * np.log(prefers_a) + (1 - prefers_a) * np.log1p(-prefers_a))[choice != 0]
    assert found.log_loss == pytest.approx(entropy.mean(), abs=0.01)


def test_overconfidence_is_found(random):
    truth, choice = answers(random)
    sharp = truth**3 / (truth**3).sum(axis=1, keepdims=True)
    honest, found = calibration.report(truth, choice), calibration.report(sharp, choice)
    assert found.calibration_error > 0.08
    assert found.log_loss > honest.log_loss + 0.05
    assert found.accuracy == honest.accuracy
    coin = calibration.report(np.full((len(choice), 3), 1 / 3), choice)
    assert coin.accuracy == 0.5
    assert coin.log_loss == pytest.approx(np.log(2))
    assert coin.share_of_ceiling is None


def test_ceiling_of_repeated_judgements(random):
    judge = lambda p: np.where(random.random(p.shape) < p, 1, -1)
    even = np.where(random.random(40_000) < 0.5, 0.8, 0.2)
    assert calibration.ceiling_of_repeats(judge(even), judge(even)) == pytest.approx(0.8, abs=0.01)
    uneven = random.random(40_000)
    bound = calibration.ceiling_of_repeats(judge(uneven), judge(uneven))
    assert calibration.ceiling_of(uneven) == pytest.approx(0.75, abs=0.01)
    assert 0.75 < bound < 0.82
    ties = np.zeros(10, int)
    with pytest.raises(ValueError, match="decided twice"):
        calibration.ceiling_of_repeats(ties, np.ones(10))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="every pair is a tie"):
        calibration.report(np.full((3, 3), 1 / 3), np.zeros(3))
    with pytest.raises(ValueError, match=r"need probabilities \(N, 3\)"):
        calibration.report(np.zeros((4, 3)), np.ones(3))


def test_confounders(random):
    density = random.normal(size=500)
    found = calibration.confounding(
        np.exp(density), {"density": density, "length": np.ones(500), "luck": random.normal(size=500)}
    )
    assert found["density"] == pytest.approx(1.0)
    assert found["length"] == 0.0
    assert abs(found["luck"]) < 0.2


def test_predictions_some_at_a_time_are_those_of_all(random):
    composer = Table(38, width=8, lookback=())
    config = reward_model.Config(ensemble_size=2)
    network = drawn(reward_model.reward_network(config, composer), np.zeros((1, 6), int), np.zeros((1, 3)))
    params = reward_model.Params(network, np.zeros(2, np.float32))
    a, b = random.integers(0, 38, (2, 10, 6), np.int32)
    data = reward_model.Pairs(random.normal(size=(10, 3)).astype(np.float32), a, b, np.ones(10, np.int32))
    found = calibration.predict(params, config, composer, data, batch=4)
    expected = jax.jit(reward_model.probabilities, static_argnums=2)(params, config, composer, data)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(np.asarray(found)[:, 0]) > 0.1
    weighted = data.replace(weight=np.ones(10, np.float32))
    np.testing.assert_array_equal(calibration.predict(params, config, composer, weighted, batch=4), found)
