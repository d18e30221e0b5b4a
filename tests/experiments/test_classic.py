"""The classic tasks: their contract, their rules, and that both learners run on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import classic
from mammadai_jax import environments


@pytest.mark.parametrize("env", [classic.CartPole(), classic.Catch()], ids=["cartpole", "catch"])
def test_they_keep_the_contract(env):
    environments.check(env)  # raises for the first promise that is broken
    assert env.action_space().n == env.num_actions


def test_the_pole_falls_or_the_time_is_up():
    env = classic.CartPole()
    still = classic.CartPoleState(jnp.int32(0), jnp.zeros(4))
    _, state, reward, terminated, truncated, _ = env.step(jax.random.key(0), still, 1)
    # 10 N on 1.1 kg, of which the pole takes a part: gravity does nothing to an upright pole
    spin = -(10 / 1.1) / (0.5 * (4 / 3 - 0.1 / 1.1))
    expected = [0.0, 0.02 * (10 / 1.1 - 0.05 * spin / 1.1), 0.0, 0.02 * spin]
    np.testing.assert_allclose(state.place, expected, rtol=1e-5)
    assert (float(reward), bool(terminated), bool(truncated)) == (1.0, False, False)
    late = still.replace(time=jnp.int32(499))
    assert [bool(x) for x in env.step(jax.random.key(0), late, 1)[3:5]] == [False, True]
    for place in ([2.5, 0, 0, 0], [0, 0, 0.22, 0]):
        lost = still.replace(place=jnp.array(place, jnp.float32))
        assert [bool(x) for x in env.step(jax.random.key(0), lost, 1)[3:5]] == [True, False]


@pytest.mark.parametrize(("ball", "action", "reward"), [(0, 0, 1.0), (4, 2, 1.0), (2, 1, 1.0), (0, 1, -1.0)])
def test_a_ball_is_caught_or_not(ball, action, reward):
    env = classic.Catch()
    state = classic.CatchState(jnp.int32(0), jnp.int32(ball), jnp.int32(2))
    for row in range(9):
        observation = np.asarray(env.observe(state)).reshape(10, 5)
        assert observation[row, ball] == 1.0 and observation[9].sum() == 1.0
        _, state, found, terminated, _, _ = env.step(jax.random.key(0), state, action)
        assert (float(found), bool(terminated)) == ((reward, True) if row == 8 else (0.0, False))
    assert int(state.time) == 0


@pytest.mark.nightly
@pytest.mark.parametrize("task", classic.TASKS, ids=lambda task: task.name)
def test_tasks_are_trained(task):
    returns, seconds = classic.measure(task._replace(steps=2000), 2)
    assert returns.shape == (2,) and np.isfinite(returns).all() and seconds > 0
