import numpy as np
import pytest

from mammadai_jax.listening import davidson
from mammadai_jax.listening.leaderboard import leaderboard
from mammadai_jax.listening.stopping import confidence_sequence, stopping
from tests.listening.choices import choices, one


def drawn(random, n, beta, log_nu, weights=None):
    covariates = random.normal(size=(n, len(beta)))
    chance = davidson.probabilities(covariates @ beta, log_nu)
    outcome = (random.uniform(size=(n, 1)) > np.cumsum(chance, axis=1)).sum(axis=1)
    return covariates, np.minimum(outcome, 2)


def test_the_score_is_zero_at_the_fit_and_its_parameters_are_recovered(random):
    beta, log_nu = np.array([0.8, -0.5]), -0.3
    covariates, outcome = drawn(random, 4000, beta, log_nu)
    fitted = davidson.fit(covariates, outcome)
    theta = np.append(fitted.beta, fitted.log_nu)
    loss = lambda t: davidson._derivatives(t, covariates, outcome, np.ones(4000))[0]
    slopes = [(loss(theta + e) - loss(theta - e)) / 2e-4 for e in 1e-4 * np.eye(3)]
    np.testing.assert_allclose(slopes, 0, atol=1e-3)
    np.testing.assert_allclose(theta, [*beta, log_nu], atol=0.12)


def test_the_information_is_the_second_derivative_of_the_loss(random):
    covariates, outcome = drawn(random, 50, np.array([0.5]), 0.2)
    theta, weights = np.array([0.3, -0.2]), random.uniform(size=50)
    gradient = lambda t: (
        davidson.PRECISION * t - davidson._derivatives(t, covariates, outcome, weights)[1].sum(axis=0)
    )
    numeric = np.stack([(gradient(theta + e) - gradient(theta - e)) / 2e-5 for e in 1e-5 * np.eye(2)])
    np.testing.assert_allclose(
        davidson._derivatives(theta, covariates, outcome, weights)[2], numeric, rtol=1e-6
    )


def test_probabilities_are_those_of_davidson():
    a, tie, b = davidson.probabilities(np.log(3.0), 0.0)
    np.testing.assert_allclose([a + tie + b, a / b, tie / np.sqrt(a * b)], [1, 3, 1])


def test_weights_are_repetitions(random):
    covariates, outcome = drawn(random, 60, np.array([0.5]), 0.0)
    weights = random.integers(0, 3, 60)
    repeated = np.repeat(np.arange(60), weights)
    one_by_one = davidson.fit(covariates[repeated], outcome[repeated])
    np.testing.assert_allclose(
        davidson.fit(covariates, outcome, weights=weights).beta, one_by_one.beta, atol=1e-6
    )


def test_clusters_of_one_give_independent_intervals_and_copies_do_not_narrow_them(random):
    covariates, outcome = drawn(random, 400, np.array([0.6]), 0.0)
    single = davidson.fit(covariates, outcome, [np.arange(400)])
    plain = davidson.fit(covariates, outcome)
    np.testing.assert_allclose(single.covariance, plain.covariance, rtol=0.3)
    copies = np.tile(np.arange(400), 4)
    repeated = davidson.fit(np.tile(covariates, (4, 1)), np.tile(outcome, 4), [copies])
    np.testing.assert_allclose(repeated.covariance, single.covariance, rtol=0.05)
    two = davidson.fit(covariates, outcome, [np.arange(400) // 20, np.arange(400) % 20])
    assert two.clusters == 20 and (np.linalg.eigvalsh(two.covariance) > 0).all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        davidson.fit(np.zeros((3, 1)), np.zeros(2, int))


def test_a_leaderboard_ranks_and_takes_out_what_being_first_gives(random):
    made = choices(random, {"x": 1.2, "y": 0.0, "z": -1.2}, raters=12, each=60, first=0.9)
    table = leaderboard(made)
    assert [place.system for place in table.places] == ["x", "y", "z"]
    assert [(place.best, place.worst) for place in table.places] == [(1, 1), (2, 2), (3, 3)]
    assert table.first[1] < 0.9 < table.first[2] and table.first[1] > 0.3
    value, low, high = table.difference("x", "z")
    assert low < 2.4 < high and value == pytest.approx(table.places[0].strength - table.places[2].strength)
    assert sum(place.votes for place in table.places) == 2 * len(made)


def test_systems_that_were_not_linked_have_no_common_table():
    made = [one("a", "b", "a"), one("c", "d", "a")]
    with pytest.raises(ValueError, match=r"a, b \| c, d"):
        leaderboard(made)


def test_a_confidence_sequence_narrows_around_the_mean(random):
    values = np.where(random.uniform(size=1500) < 0.65, 1.0, -1.0)
    low, high = confidence_sequence(values)
    assert (np.diff(low) >= 0).all() and (np.diff(high) <= 0).all()
    assert low[-1] < 0.3 < high[-1] and low[-1] > 0.1 and high[-1] < 0.5
    assert low[0] < -0.9 and high[0] > 0.9


def test_equal_systems_are_rarely_called_different():
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(100):
        low, high = confidence_sequence(random.choice([-1.0, 0.0, 1.0], size=150))
        wrong += bool((low > 0).any() or (high < 0).any())
    assert wrong <= 10


def test_the_unit_is_the_rater_unless_there_is_one():
    alone = [one("x", "y", "a", listener="ann", prompt=str(n)) for n in range(40)]
    found = stopping(alone, "x", "y")
    assert found.unit == "vote" and found.values == 40 and found.may_stop and found.low > 0
    swapped = stopping(alone, "y", "x")
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=0.02)
    many = [one("x", "y", "a", listener=f"r{n % 4}", prompt=str(n)) for n in range(40)]
    found = stopping(many, "x", "y")
    assert found.unit == "rater" and found.values == 4 and not found.may_stop
    assert stopping(many, "x", "z") is None
    with pytest.raises(ValueError, match="one row of numbers"):
        confidence_sequence(np.array([2.0]))


def test_a_variance_that_is_too_small_leaves_the_others_as_they_are():
    two_way = np.array([[4.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, -0.2]])
    one_way = np.stack([np.diag([3.0, 2.0, 0.1]), np.diag([1.0, 0.5, 0.3])])
    found = davidson._at_least(two_way, one_way)
    np.testing.assert_allclose(found, [[4.0, 0.5, 0.0], [0.5, 2.0, 0.0], [0.0, 0.0, 0.3]], atol=1e-12)
    assert (np.linalg.eigvalsh(found) > 0).all()
