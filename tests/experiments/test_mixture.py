import numpy as np
import pytest

from experiments import mixture

SIZE = 4
BAR = 16


def melodies(count, seed=0):
    """Melodies of three times the same bar, but for one step in ten."""
    rng = np.random.default_rng(seed)
    rows = np.tile(rng.integers(0, SIZE, (count, BAR)), 3)
    return np.where(rng.random(rows.shape) < 0.1, rng.integers(0, SIZE, rows.shape), rows)


@pytest.fixture(scope="module")
def counted():
    return mixture.count(melodies(25), SIZE)


@pytest.fixture(scope="module")
def fresh():
    return melodies(5, seed=1)


@pytest.fixture(scope="module")
def weights(counted, fresh):
    return mixture.fit([counted], fresh)


def test_a_window_has_the_token_last_and_the_first_fact_beside_it():
    told = mixture.facts([np.arange(17) % 3, np.array([2])], 20)
    codes = mixture.windows(told, (1, mixture.PLACE, 16), 20)
    digits = np.stack([codes // 21**k % 21 for k in range(4)], axis=1)
    np.testing.assert_array_equal(digits[[0, 1, 15]], [[0, 20, 0, 20], [1, 0, 1, 20], [0, 2, 15, 20]])
    np.testing.assert_array_equal(digits[[16, 17]], [[1, 0, 0, 0], [2, 20, 0, 20]])


def test_a_fact_is_what_followed_the_last_passage_that_ran_as_this_one():
    told = mixture.facts([np.array([0, 1, 2, 0, 1, 2, 0])], 20)
    np.testing.assert_array_equal(told[mixture.MATCH], [20, 20, 20, 20, 1, 2, 0])
    np.testing.assert_array_equal(told[mixture.MATCH_KIND], [0, 0, 0, 0, 1, 1, 2])


def test_every_distribution_sums_to_one(counted, fresh, weights):
    said = np.asarray(mixture.mix(weights, mixture.listen([counted], fresh)))
    assert said.shape == (fresh.size, SIZE)
    np.testing.assert_allclose(np.exp(said).sum(axis=1), 1, atol=1e-5)


def test_where_it_is_fitted_it_is_better_than_any_expert(counted, fresh, weights):
    each = np.eye(weights.shape[1], dtype=np.float32)
    alone = [mixture.bits(np.tile(one, (BAR, 1)), [counted], fresh) for one in each]
    assert mixture.bits(weights, [counted], fresh) < min(alone) < max(alone) - 0.5


def test_it_hears_a_bar_that_returns(counted, weights):
    """A bar of noise cannot be foretold, its return can be."""
    rows = melodies(20, seed=2)
    nats = np.asarray(mixture.cost(weights, mixture.listen([counted], rows))).reshape(20, 3, BAR)
    first, *returned = nats.mean(axis=(0, 2)) / np.log(2)
    assert max(returned) < 1.5 < 1.9 < first


def test_the_weight_of_one_expert_is_the_one_that_suits_how_often_it_is_right():
    """Of an expert that says 4/5 and is right in 2 of 3 steps: (4 ** w) / (1 + 4 ** w) = 2/3, w = 1/2."""
    said = np.log(np.array([0.8, 0.2], np.float32))
    expert = lambda melodies: np.broadcast_to(said, (sum(map(len, melodies)), 1, 2))
    melody = np.tile([0, 0, 1], 1000 * BAR)
    np.testing.assert_allclose(mixture.fit([expert], [melody]), 0.5, atol=6e-3)


def test_a_network_is_an_expert_too(counted, fresh):
    """One that knows more than all that was counted gets nearly all the weight."""
    knows = lambda melodies: np.log(np.eye(SIZE)[np.concatenate(list(melodies))] * 0.9 + 0.1 / SIZE)[:, None]
    weights = mixture.fit([counted, knows], fresh)
    assert mixture.bits(weights, [counted, knows], fresh) < -np.log2(0.925)
