import numpy as np
import pytest

from mammadai_jax.agents import reward_model
from mammadai_jax.agents.preference import Statistics
from mammadai_jax.learning import minibatches
from mammadai_jax.objectives import spread

# whose mean is rounded, so that their standard deviation is not 0 in float32
CONSTANTS = [
    np.full(count, value, "f") for count in (1, 3, 64, 1000) for value in (0.1, -0.7, 1e-6, 333.3, 0)
]


@pytest.mark.parametrize("values", CONSTANTS)
def test_equal_numbers_do_not_spread(values):
    assert spread.deviation(values) == 0.0 and spread.scale(values) == 1.0
    np.testing.assert_array_equal(minibatches.normalized(values), np.zeros_like(values))


@pytest.mark.parametrize("values", CONSTANTS)
def test_rounding_is_no_spread(values):
    assert spread.deviation(np.nextafter(values, np.float32(1e9) * (np.arange(len(values)) % 2))) == 0.0


def test_what_spreads_has_its_standard_deviation(random, transform):
    values = random.normal(1000.0, 0.1, (3, 50)).astype("f")
    np.testing.assert_allclose(transform(spread.deviation)(values), values.std(), rtol=1e-4)
    np.testing.assert_allclose(transform(lambda x: spread.scale(x, 1))(values), values.std(axis=1), rtol=1e-3)


def test_scores_that_are_all_equal_are_not_blown_up():
    scale = reward_model.normalise(np.full((2, 64), 0.1, "f"))
    score, _ = reward_model.score(np.full((2, 3), 0.3, "f"), scale)
    np.testing.assert_allclose(score, 0.2, rtol=1e-6)


def test_rewards_that_are_all_equal_are_not_blown_up():
    statistics = Statistics(*np.zeros((3,), "f"))
    for _ in range(5):
        statistics = statistics.add(np.full(37, 333.3, "f"))
    assert statistics.scale == 1.0
