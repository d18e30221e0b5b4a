import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax import environments
from mammadai_jax.agents import ppo
from mammadai_jax.environments import make
from mammadai_jax.music import theory
from mammadai_jax.music.notes import MAGENTA, RL_TUNER


def play(env, params, actions):
    """Rewards, flags and info of each step, from reset on."""
    _, state = env.reset(jax.random.key(0), params)

    def step(state, action):
        _, state, *rest = env.step(jax.random.key(1), state, action, params)
        return state, rest

    return jax.lax.scan(step, state, jnp.asarray(actions))[1]


@pytest.mark.parametrize("labels", ["released", "corrected"])
def test_rewards_are_the_rules_over_several_episodes(labels):
    config = theory.Config(length=24, labels=labels)
    weights = {"key": 2.0, "motif": 0.5}
    env, params = make("theory", config=config, weights=weights)
    assert params.max_steps_in_episode == 24
    tokens = np.random.default_rng(0).integers(0, 38, (3, 24))
    reward, terminated, _, info = play(env, params, tokens.ravel())
    expected = theory.score(tokens, config)
    assert list(np.flatnonzero(terminated)) == [23, 47, 71]
    assert set(info["rules"]) == set(theory.RULES)
    for name, values in info["rules"].items():
        np.testing.assert_allclose(values, np.ravel(expected[name]), atol=1e-5)
    total = sum(weights.get(name, 1.0) * np.ravel(values) for name, values in expected.items())
    np.testing.assert_allclose(reward, total, atol=1e-4)


def test_the_alphabet_follows_the_labels():
    assert make("theory")[0].alphabet is RL_TUNER
    assert make("theory", config=theory.Config(labels="corrected"))[0].alphabet is MAGENTA


def test_an_episode_that_goes_on_has_its_end_where_the_rules_expect_it():
    env, params = make("theory", config=theory.Config(length=16))
    reward, terminated, _, info = play(env, params.replace(max_steps_in_episode=20), np.full(20, 14))
    assert list(np.flatnonzero(terminated)) == [19]
    np.testing.assert_array_equal(np.flatnonzero(info["rules"]["tonic"]), [0, 12])
    assert np.isfinite(reward).all()


def test_rules_of_ones_own_and_weights_of_none():
    rules = {"high": lambda state, action, config: jnp.where(action > 20, 1.0, 0.0)}
    env, params = make("theory", rules=rules, weights={"high": 3.0})
    reward, *_, info = play(env, params, np.array([20, 21, 37]))
    np.testing.assert_array_equal(reward, [0.0, 3.0, 3.0])
    assert list(info["rules"]) == ["high"]
    with pytest.raises(ValueError, match=r"\['key'\] belong to no rule"):
        make("theory", rules=rules, weights={"key": 1.0})


def test_keeps_the_contract_at_the_length_of_the_rules():
    environments.check(*make("theory", config=theory.Config(length=16)), steps=40)


def test_ppo_learns_the_rules_unchanged():
    env, params = make("theory", config=theory.Config(length=16))
    config = ppo.Config(melodies=64, steps=16, hidden=(32,), learning_rate=5e-3)
    step = jax.jit(lambda state: ppo.step(state, config, env, params))
    state, returns = ppo.init(jax.random.key(0), config, env), []
    for _ in range(20):
        state, metrics = step(state)
        returns.append(float(metrics["return"]))
    assert np.mean(returns[-3:]) > np.mean(returns[:3]) + 10
