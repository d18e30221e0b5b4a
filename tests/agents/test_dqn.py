"""Q-learning: its loss by the definition, what it plays and remembers, and known action values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import dqn
from tests.agents.probes import Walk, compiled

TABLE, TARGET = np.random.default_rng(0).normal(size=(2, 3, 2)).astype("f")


class Rows:
    """A network whose parameters are its action values, by the one-hot observation."""

    @staticmethod
    def apply(params, observation):
        return observation @ params


@pytest.mark.parametrize("double_q", [False, True])
def test_loss_by_the_definition(double_q, random):
    seen, after, action = random.integers(0, 3, 8), random.integers(0, 3, 8), random.integers(0, 2, 8)
    reward, discount = random.normal(size=8).astype("f"), random.integers(0, 2, 8).astype("f")
    one_hot = np.eye(3, dtype="f")
    batch = dqn.Transition(one_hot[seen], action, reward, discount, one_hot[after])
    config = dqn.Config(gamma=0.9, double_q=double_q)
    slope = jax.value_and_grad(lambda params, batch: dqn.td_loss(params, TARGET, Rows, batch, config))
    loss, gradient = compiled(slope)(TABLE, batch)
    chosen = (TABLE if double_q else TARGET)[after].argmax(axis=-1)
    error = TABLE[seen, action] - reward - 0.9 * discount * TARGET[after, chosen]
    np.testing.assert_allclose(loss, 0.5 * np.mean(error**2), rtol=1e-5)
    expected = np.zeros((3, 2))
    np.add.at(expected, (seen, action), error / 8)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize(("exit", "values"), [(0.0, [0.0, 2.0]), (3.0, [3.0, 2.5])])
def test_action_values_of_a_probe(exit, values):
    """Episodes that are truncated are worth what going on is, those that terminated are over."""
    env = Walk(exit)
    config = dqn.Config(
        (16,), num_envs=8, num_minibatches=2, buffer_size=1000, gamma=0.5, epsilon=0.2, epsilon_decay=1000,
        learning_rate=0.01, tau=0.1,
    )  # fmt: skip

    @jax.jit
    def learn(key):
        update = lambda state, _: dqn.step(state, config, env)
        state, metrics = jax.lax.scan(update, dqn.init(key, config, env), length=400)
        return dqn.make_network(config, env).apply(state.params, jnp.eye(3)), state.update, metrics

    found, update, metrics = jax.tree.map(np.asarray, learn(jax.random.key(0)))
    np.testing.assert_allclose(found, [values] * 3, atol=0.1)
    assert update == 400
    assert (metrics["epsilon"][0], metrics["epsilon"][-1]) == (1.0, np.float32(0.2))
    assert metrics["return"][-1] == pytest.approx(3.0, abs=0.6)


def test_the_policy_is_epsilon_greedy():
    observation = jnp.tile(jnp.eye(3), (4000, 1))
    play = jax.jit(lambda key: dqn.make_policy(Rows, 0.3)(TABLE, observation, (), key))
    action, log_prob, _ = jax.tree.map(np.asarray, play(jax.random.key(0)))
    best = np.tile(TABLE.argmax(axis=1), 4000) == action
    assert best.mean() == pytest.approx(0.85, abs=0.02)
    np.testing.assert_allclose(np.exp(log_prob), np.where(best, 0.85, 0.15), rtol=1e-5)


def test_replay_must_hold_an_update():
    for small in ({"buffer_size": 60}, {"batch_size": 20_000}):
        with pytest.raises(
            ValueError, match="is less than the 64 transitions of an update or a batch_size of"
        ):
            dqn.init(jax.random.key(0), dqn.Config(**small), Walk())
