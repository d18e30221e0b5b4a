"""Advantages against their definition, of whole episodes and of several in a trajectory."""

import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.objectives import returns
from tests.agents.probes import compiled

T, B = 7, 3
REWARD, VALUE = np.random.default_rng(0).normal(size=(2, T, B)).astype(np.float32)


def estimate(reward, value, discount, trace):
    return compiled(lambda r, v: returns.advantages(r, v, discount, trace))(reward, value)


def test_advantages_by_hand():
    reward = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, -1.0]], np.float32)
    value = np.array([[0.5, 1.0], [1.0, 0.0], [2.0, 0.5]], np.float32)
    # one-step errors: 1, 2, 1 and -1, 1.25, -1.5; a quarter of each advantage goes back
    expected = [[1.5625, -0.78125], [2.25, 0.875], [1.0, -1.5]]
    np.testing.assert_allclose(estimate(reward, value, 0.5, 0.5), expected, atol=1e-6)


def test_advantages_against_the_defining_sum():
    discount, trace = 0.9, 0.7
    values = np.concatenate([VALUE, np.zeros((1, B))])
    delta = REWARD + discount * values[1:] - values[:-1]
    expected = [sum((discount * trace) ** (k - t) * delta[k] for k in range(t, T)) for t in range(T)]
    np.testing.assert_allclose(estimate(REWARD, VALUE, discount, trace), expected, atol=1e-5)


def test_advantages_between_return_and_one_step_error():
    values = np.concatenate([VALUE, np.zeros((1, B))])
    sums = [sum(0.9 ** (k - t) * REWARD[k] for k in range(t, T)) for t in range(T)]
    np.testing.assert_allclose(estimate(REWARD, VALUE, 0.9, 1.0), sums - VALUE, atol=1e-5)
    one_step = REWARD + 0.9 * values[1:] - VALUE
    np.testing.assert_allclose(estimate(REWARD, VALUE, 0.9, 0.0), one_step, atol=1e-6)


def test_advantages_take_no_other_shapes():
    with pytest.raises(AssertionError):
        returns.advantages(np.ones((3, 2)), np.ones((4, 2)), 0.9, 0.9)
    with pytest.raises(AssertionError):
        returns.advantages(np.ones(3), np.ones(3), 0.9, 0.9)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_episodes_that_end_within_the_trajectory(gae_lambda, random):
    """Each episode by itself: terminated ones are worth nothing afterwards, truncated ones their value."""
    gamma, length = 0.9, 12
    reward, value, final = random.normal(size=(3, length, 2)).astype("f")
    terminated = np.zeros((length, 2), bool)
    truncated = terminated.copy()
    terminated[[2, 7], 0] = truncated[[5, 11], 0] = terminated[11, 1] = truncated[3, 1] = True
    last = np.array([-5.0, 7.0], "f")  # both episodes end with the trajectory: never used

    def estimated(reward, value, final):
        rewards = returns.bootstrapped(reward, jnp.asarray(truncated), final, gamma)
        discount = gamma * (1.0 - jnp.asarray(terminated | truncated))
        return returns.advantages(rewards, value, discount, gae_lambda, last_value=jnp.asarray(last))

    found = compiled(estimated)(reward, value, final)
    for column in range(2):
        begin = 0
        for end in np.flatnonzero((terminated | truncated)[:, column]):
            rows = slice(begin, end + 1)
            after = final[end, column] * truncated[end, column]
            values = np.append(value[rows, column], after)
            delta = reward[rows, column] + gamma * values[1:] - values[:-1]
            steps = len(delta)
            expected = [
                sum((gamma * gae_lambda) ** (k - t) * delta[k] for k in range(t, steps)) for t in range(steps)
            ]
            np.testing.assert_allclose(found[rows, column], expected, atol=1e-5)
            begin = end + 1


def test_the_last_value_is_that_of_an_episode_that_goes_on():
    """Two halves of an episode have the advantages of the whole, but for what lambda carries across."""
    whole = estimate(REWARD, VALUE, 0.9, 0.0)
    half = returns.advantages(REWARD[:4], VALUE[:4], 0.9, 0.0, last_value=jnp.asarray(VALUE[4]))
    np.testing.assert_allclose(half, whole[:4], atol=1e-6)


def test_group_advantages_by_hand(transform):
    score = jnp.array([1.0, 3.0, 2.0, 2.0, -5.0, 7.0])
    found = transform(lambda x: returns.group_advantages(x, 2))(score)
    np.testing.assert_allclose(found, [-1, 1, 0, 0, -1, 1], rtol=1e-6)


def test_a_group_s_advantages_have_no_mean_and_ignore_shift_and_scale(random):
    score = jnp.asarray(random.normal(size=24), jnp.float32)
    found = returns.group_advantages(score, 8).reshape(3, 8)
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=1), 1, rtol=1e-5)
    moved = score.reshape(3, 8) * jnp.array([[2.0], [0.5], [9.0]]) + jnp.array([[1.0], [-3.0], [0.0]])
    np.testing.assert_allclose(returns.group_advantages(moved.ravel(), 8), found.ravel(), rtol=1e-4)
