import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mammadai_jax.agents import rollout
from mammadai_jax.agents.rollout import compose
from mammadai_jax.networks.composer import Composer

T, B, SIZE = 10, 4, 6
CONDITION = jax.random.normal(jax.random.key(2), (B, 3))


@functools.cache
def make(body):
    """A composer with strong opinions, so that a difference would be seen."""
    composer = Composer(size=SIZE, body=body, width=8, layers=1, heads=2, context=16)
    blank = jnp.zeros((1, B), jnp.int32)
    params = composer.init(jax.random.key(0), blank, blank, CONDITION)
    return composer, jax.tree.map(lambda x: x + 0.4 * jax.random.normal(jax.random.key(1), x.shape), params)


def score(composer, params, tokens, temperature, condition=None):
    """Log-probabilities (T, B) of tokens (T, B), read as whole melodies."""
    previous = jnp.concatenate([jnp.full((1, tokens.shape[1]), composer.start), tokens[:-1]])
    times = jnp.broadcast_to(jnp.arange(len(tokens))[:, None], tokens.shape)
    logits = composer.apply(params, previous, times, condition).logits / temperature
    return jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], axis=-1)[..., 0]


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_recorded_log_probabilities_are_those_of_the_composer(body):
    composer, params = make(body)
    write = jax.jit(lambda key, t, c: compose(composer, params, key, B, T, t, c))
    read = jax.jit(lambda tokens, t, c: score(composer, params, tokens, t, c))
    for temperature in (0.7, 1.0, 1.3):
        written = write(jax.random.key(3), temperature, CONDITION)
        assert written.action.shape == written.log_prob.shape == (T, B)
        assert written.action.dtype == jnp.int32
        np.testing.assert_allclose(written.log_prob, read(written.action, temperature, CONDITION), atol=1e-5)
        # under another temperature or condition they are others
        assert np.abs(written.log_prob - read(written.action, 2.0, CONDITION)).max() > 0.1
        assert np.abs(written.log_prob - read(written.action, temperature, CONDITION[::-1])).max() > 0.1


@pytest.mark.parametrize("context", [8, 48, 128])
def test_a_context_that_grows_with_the_melody_changes_nothing(context, monkeypatch):
    composer, params = make("transformer")
    composer, length = composer.clone(context=context), 100
    condition = CONDITION[:2]
    written = compose(composer, params, jax.random.key(3), 2, length, 1.0, condition)
    read = score(composer, params, written.action, 1.0, condition)
    np.testing.assert_allclose(written.log_prob, read, atol=1e-5)
    monkeypatch.setattr(rollout, "SECTIONS", 1)
    np.testing.assert_array_equal(
        written.action, compose(composer, params, jax.random.key(3), 2, length, 1.0, condition).action
    )


def test_what_was_observed_is_what_was_played_before():
    composer, params = make("lstm")
    seen = compose(composer, params, jax.random.key(3), B, T)
    np.testing.assert_array_equal(seen.observation.token[0], composer.start)
    np.testing.assert_array_equal(seen.observation.token[1:], seen.action[:-1])
    np.testing.assert_array_equal(seen.observation.time, np.tile(np.arange(T)[:, None], B))
    assert seen.reward is None


def test_a_key_is_a_melody():
    composer, params = make("lstm")
    write = jax.jit(lambda key: compose(composer, params, key, B, T).action)
    first, again, other = (write(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len(np.unique(first, axis=1).T) == B


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_notes_follow_the_composer(temperature):
    composer, params = make("lstm")
    count = 6000
    write = jax.jit(lambda key, t: compose(composer, params, key, count, 2, t).action)
    tokens = np.asarray(write(jax.random.key(5), temperature))
    pairs = jnp.stack(jnp.meshgrid(jnp.arange(SIZE), jnp.arange(SIZE), indexing="ij")).reshape(2, -1)
    expected = np.exp(np.asarray(score(composer, params, pairs, temperature), np.float64).sum(axis=0)) * count
    counts = np.bincount(tokens[0] * SIZE + tokens[1], minlength=SIZE * SIZE)
    order = np.argsort(expected)
    counts, expected = (np.add.reduceat(x[order], [0, *range(12, SIZE * SIZE)]) for x in (counts, expected))
    assert expected.min() > 5  # the twelve rarest pairs are one
    assert stats.chisquare(counts, expected * count / expected.sum()).pvalue > 1e-2
    uniform = np.full(len(counts), count / len(counts))
    assert stats.chisquare(counts, uniform).pvalue < 1e-6


def test_rollout_against_a_plain_loop():
    """A policy and an environment that count: every carry, state and reward is handed on in order."""

    def policy(params, observation, carry, key):
        action = (observation + carry + params) % 7
        return action, jax.random.uniform(key, action.shape), carry + 1

    advance = lambda state, action: (state + action, state * 10 + action)
    states, key = jnp.array([1, 2, 3]), jax.random.key(0)
    found, state, carry = rollout.rollout(
        policy, 2, jnp.zeros(3, int), states, key, 5, advance, lambda state: state % 5
    )
    expected = states
    for t, key_note in enumerate(jax.random.split(key, 5)):
        action = (expected % 5 + t + 2) % 7
        np.testing.assert_array_equal(found.observation[t], expected % 5)
        np.testing.assert_array_equal(found.action[t], action)
        np.testing.assert_array_equal(found.reward[t], expected * 10 + action)
        np.testing.assert_array_equal(found.log_prob[t], jax.random.uniform(key_note, (3,)))
        expected = expected + action
    np.testing.assert_array_equal(state, expected)
    np.testing.assert_array_equal(carry, 5)
