import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax import environments
from mammadai_jax.agents import ppo
from mammadai_jax.environments import make
from mammadai_jax.music import theory
from mammadai_jax.music.notes import MAGENTA, RL_TUNER

WEIGHTS = {"key": 2.0, "motif": 0.5}


@functools.cache
def made(labels="released"):
    """An environment of melodies of 16 notes that tests share, so that its step is compiled once."""
    return make("theory", config=theory.Config(length=16, labels=labels), weights=WEIGHTS)


def play(env, params, actions):
    """Rewards, flags and info of each step, from reset on."""
    _, state = env.reset(jax.random.key(0), params)
    rows = []
    for action in np.asarray(actions, np.int32):
        _, state, *rest = env.step(jax.random.key(1), state, action, params)
        rows.append(jax.tree.map(np.asarray, rest))
    return jax.tree.map(lambda *x: np.stack(x), *rows)


@pytest.mark.parametrize("labels", ["released", "corrected"])
def test_rewards_are_the_rules_over_several_episodes(labels):
    env, params = made(labels)
    assert params.max_steps_in_episode == 16
    tokens = np.random.default_rng(0).integers(0, 38, (3, 16))
    reward, terminated, _, info = play(env, params, tokens.ravel())
    expected = jax.tree.map(np.asarray, theory.score(tokens, env.config))
    assert list(np.flatnonzero(terminated)) == [15, 31, 47]
    assert set(info["rules"]) == set(theory.RULES)
    for name, values in info["rules"].items():
        np.testing.assert_allclose(values, np.ravel(expected[name]), atol=1e-5)
    total = sum(WEIGHTS.get(name, 1.0) * np.ravel(values) for name, values in expected.items())
    np.testing.assert_allclose(reward, total, atol=1e-4)


def test_the_alphabet_follows_the_labels():
    assert make("theory")[0].alphabet is RL_TUNER
    assert make("theory", config=theory.Config(labels="corrected"))[0].alphabet is MAGENTA


def test_an_episode_that_goes_on_has_its_end_where_the_rules_expect_it():
    env, params = made()
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


FEW = {name: theory.RULES[name] for name in ("key", "tonic")}


def test_keeps_the_contract_at_the_length_of_the_rules():
    env, params = make("theory", config=theory.Config(length=16), rules=FEW)
    environments.check(env, params, steps=40)
    assert params.max_steps_in_episode == 16


def test_ppo_learns_the_rules_unchanged():
    env, params = make("theory", config=theory.Config(length=16), rules=FEW)
    config = ppo.Config(num_envs=64, num_steps=16, hidden=(32,), learning_rate=5e-3)

    @jax.jit
    def learn(key):
        update = lambda state, _: ppo.step(state, config, env, params)
        return jax.lax.scan(update, ppo.init(key, config, env), length=20)[1]["return"]

    returns = np.asarray(learn(jax.random.key(0)))
    assert returns[-3:].mean() > returns[:3].mean() + 10
