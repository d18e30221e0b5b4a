"""The tuner and the projection on pieces of several voices, where the optimum is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from mammadai_jax.agents import projection, tuner
from mammadai_jax.agents.tuner import losses
from mammadai_jax.environments import Polyphonic
from mammadai_jax.music import harmony
from mammadai_jax.music.notes import VOICES
from mammadai_jax.networks.composer import Output

SIZE = VOICES.size
PIECE = harmony.Config(voices=2, frames=4, alphabet=VOICES)
CONFIG = tuner.Config(
    num_envs=64, batch_size=64, buffer_size=64, reward_scale=1.5, temperature=0.7, gamma=0.8
)


class Table:
    """A network whose parameters are its outputs, indexed by the decision's number and the token before."""

    size = start = SIZE

    @staticmethod
    def initial_carry(batch):
        del batch
        return ()

    @staticmethod
    def apply(params, *arguments, method=None):
        carry, inputs = (arguments[:1], arguments[1:3]) if method == "step" else ((), arguments)
        logits, value = (jnp.asarray(params[name])[inputs[::-1]] for name in ("logits", "value"))
        output = Output(logits, value)
        return (output, *carry) if method == "step" else output


def fifths(state, action, config):
    """1 where the lower voice lies a fifth below the upper."""
    seen = harmony.view(state, action, config)
    return jnp.where(seen.last & (seen.now[0] - seen.now[1] == 7) & (seen.now[1] > 0), 1.0, 0.0)


RULES = {"fifths": fifths}
PRIOR = {
    "logits": np.random.default_rng(0).normal(size=(PIECE.length, SIZE + 1, SIZE)).astype("f"),
    "value": np.zeros((PIECE.length, SIZE + 1), "f"),
}


@functools.cache
def optimum(algorithm):
    """Q, Psi or G of every decision, token before and action, by backward recursion: (N, SIZE + 1, SIZE)."""
    config, log_prior = CONFIG, special.log_softmax(np.asarray(PRIOR["logits"], np.float64), axis=-1)
    before, after = np.arange(SIZE + 1)[:, None], np.arange(SIZE)
    fifth = (before - after == 7) & (after > 0)
    values, following = np.zeros_like(log_prior), np.zeros(SIZE)
    for time in reversed(range(PIECE.length)):
        reward = config.reward_scale * fifth * (time % 2) + (log_prior[time] if algorithm != "g" else 0.0)
        values[time] = reward + config.gamma * following
        logits = (values[time] + (log_prior[time] if algorithm == "g" else 0.0)) / config.temperature
        soft = config.temperature * special.logsumexp(logits, axis=-1)
        following = (values[time].max(axis=-1) if algorithm == "q" else soft)[:SIZE]
    return values


@functools.partial(jax.jit, static_argnames="algorithm")
def errors(table, key, algorithm):
    """Loss and gradient of a table of action values on whole pieces that the prior plays."""
    config, env = CONFIG.replace(algorithm=algorithm), Polyphonic(PIECE, None, RULES)
    played = tuner.play(PRIOR, PRIOR, config, Table, env, key)
    batch, network = losses.items(played, config), {"network": table}
    return jax.value_and_grad(losses.melody_loss)(network, table, config, Table, batch), played


def as_parameters(values, algorithm):
    """A table whose action values these are: its value head has their level, its logits the rest."""
    log_prior = special.log_softmax(np.asarray(PRIOR["logits"], np.float64), axis=-1)
    logits = (values + (log_prior if algorithm == "g" else 0.0)) / CONFIG.temperature
    level = CONFIG.temperature * special.logsumexp(logits, axis=-1)
    return {"logits": logits.astype("f"), "value": level.astype("f")}


@pytest.mark.parametrize("algorithm", ["q", "psi", "g"])
def test_exact_values_are_where_learning_ends(algorithm):
    """Whoever played: there no decision errs and nothing moves; elsewhere something does."""
    table, key = as_parameters(optimum(algorithm), algorithm), jax.random.key(0)
    (error, gradient), played = errors(table, key, algorithm)
    assert error < 1e-9
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-6
    moved = {**table, "logits": table["logits"] + 0.3 * (np.arange(SIZE) % 3 == 0).astype("f")}
    (error, gradient), _ = errors(moved, key, algorithm)
    assert error > 1e-4
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) > 1e-5
    assert played.action.shape == (8, 64)
    fifth = (played.action[::2] - played.action[1::2] == 7) & (played.action[1::2] > 0)
    np.testing.assert_array_equal(played.theory[1::2], fifth)
    assert fifth.any() and not played.theory[::2].any()


def learned(step, state, updates):
    """The rule's share of decisions before and after some updates."""
    state, metrics = jax.jit(lambda state: jax.lax.scan(step, state, length=updates))(state)
    shares = np.asarray(metrics["fifths"])
    return shares[:3].mean(), shares[-3:].mean()


def test_psi_learning_finds_fifths():
    config = CONFIG.replace(reward_scale=8.0, learning_rate=0.05, tau=0.1, num_envs=256, buffer_size=512)
    state = tuner.init(jax.random.key(0), config, Table, PRIOR, PIECE, RULES)
    before, after = learned(lambda state, _: tuner.step(state, config, Table, PIECE, RULES), state, 60)
    assert before < 0.02 and after > 3 * before


def test_the_projection_finds_fifths():
    config = projection.Config(
        num_envs=512, batch_size=128, reward_scale=8.0, learning_rate=0.05, temperature=1.0
    )
    state = projection.init(jax.random.key(0), config, PRIOR)
    before, after = learned(lambda state, _: projection.step(state, config, Table, PIECE, RULES), state, 40)
    assert before < 0.02 and after > 3 * before
