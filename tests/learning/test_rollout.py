import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mammadai_jax.learning import rollout
from mammadai_jax.learning.rollout import compose, composer_policy
from mammadai_jax.music.forms import Form, Plan, together
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.networks.composer import Composer
from mammadai_jax.objectives import distributions

T, B, SIZE = 10, 4, 6
CONDITION = np.random.default_rng(2).normal(size=(B, 3)).astype(np.float32)


@functools.cache
def make(body):
    """A composer with strong opinions, so that a difference would be seen."""
    composer = Composer(size=SIZE, body=body, width=8, num_layers=1, num_heads=2, attention_window=16)

    @jax.jit
    def init():
        blank, key = jnp.zeros((1, B), jnp.int32), jax.random.key(1)
        params = composer.init(jax.random.key(0), blank, blank, CONDITION)
        return jax.tree.map(lambda x: x + 0.4 * jax.random.normal(key, x.shape), params)

    return composer, init()


@functools.partial(jax.jit, static_argnames=("composer", "melodies", "length"))
def written(composer, params, key, temperature=1.0, condition=None, melodies=B, length=T):
    policy = functools.partial(composer_policy, temperature=temperature, condition=condition)
    return compose(composer, params, key, melodies, length, make_policy=policy)


@functools.partial(jax.jit, static_argnames="composer")
def _logits(composer, params, tokens, condition):
    previous = jnp.concatenate([jnp.full((1, tokens.shape[1]), composer.start), tokens[:-1]])
    times = jnp.broadcast_to(jnp.arange(len(tokens))[:, None], tokens.shape)
    return composer.apply(params, previous, times, condition).logits


def score(composer, params, tokens, temperature, condition=None):
    """Log-probabilities (T, B) of tokens (T, B), read as whole melodies."""
    logits = np.asarray(_logits(composer, params, tokens, condition), float) / temperature
    rows = special.log_softmax(logits, axis=-1)
    return np.take_along_axis(rows, np.asarray(tokens)[..., None], axis=-1)[..., 0]


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_recorded_log_probabilities_are_those_of_the_composer(body):
    composer, params = make(body)
    for temperature in (0.7, 1.0, 1.3):
        melodies = written(composer, params, jax.random.key(3), temperature, CONDITION)
        read = functools.partial(score, composer, params, melodies.action)
        assert melodies.action.shape == melodies.log_prob.shape == (T, B)
        assert melodies.action.dtype == jnp.int32
        assert melodies.reward is None
        np.testing.assert_allclose(melodies.log_prob, read(temperature, CONDITION), atol=1e-5)
        # under another temperature or condition they are others
        assert np.abs(melodies.log_prob - read(2.0, CONDITION)).max() > 0.1
        assert np.abs(melodies.log_prob - read(temperature, CONDITION[::-1])).max() > 0.1
    seen = melodies.observation
    np.testing.assert_array_equal(seen.token[0], composer.start)
    np.testing.assert_array_equal(seen.token[1:], melodies.action[:-1])
    np.testing.assert_array_equal(seen.time, np.tile(np.arange(T)[:, None], B))


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_what_returns_is_made_likelier_by_the_forms_strength(body):
    composer, params = make(body)
    composer = composer.clone(match_steps=0, lookback=(1,))
    blank = jnp.zeros((1, B), jnp.int32)
    params = composer.init(jax.random.key(0), blank, blank)
    distance = np.zeros((T, B), np.int32)
    distance[4:7, 0], distance[6:, 1], distance[1:, 2] = 4, 3, 30
    write = jax.jit(
        lambda key, strength: compose(
            composer, params, key, B, T,
            make_policy=functools.partial(
                composer_policy, form=Form(distance, jnp.full(B, strength)), temperature=0.5
            ),
        )
    )  # fmt: skip
    certain = np.asarray(write(jax.random.key(1), 60.0).action)
    assert (certain[4:7, 0] == certain[:3, 0]).all() and (certain[6:, 1] == certain[3:7, 1]).all()
    likelier = write(jax.random.key(2), 1.5)
    logits = np.asarray(_logits(composer, params, likelier.action, None), float)
    tokens = np.asarray(likelier.action)
    for row, place in ((0, 4), (0, 5), (0, 6), (1, 6), (1, 7), (1, 8), (1, 9)):
        logits[place, row, tokens[place - distance[place, row], row]] += 1.5
    rows = special.log_softmax(logits / 0.5, axis=-1)  # nothing lies 30 steps back
    expected = np.take_along_axis(rows, tokens[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(likelier.log_prob, expected, atol=1e-5)


def test_a_form_closes_within_what_is_allowed():
    form = together([Plan(np.zeros(4, int), 0.0, 2)] * 2)
    logits = np.random.default_rng(0).normal(size=(2, MAGENTA.size)).astype(np.float32)
    allowed = np.ones((4, MAGENTA.size), bool)
    open_end, closing = np.asarray(rollout.permitted(logits, jnp.array([1, 2]), allowed, form))
    np.testing.assert_array_equal(open_end, logits[0])
    kept = closing > distributions.LEAST
    np.testing.assert_array_equal(kept, form.closing(jnp.array([1, 2]))[1])
    np.testing.assert_array_equal(closing[kept], logits[1][kept])
    allowed[2] = ~kept
    _, other = np.asarray(rollout.permitted(logits, jnp.array([1, 2]), allowed, form))
    np.testing.assert_array_equal(other > distributions.LEAST, ~kept)


@pytest.mark.parametrize("context", [8, 70])
def test_a_context_that_grows_with_the_melody_changes_nothing(context, monkeypatch):
    composer, params = make("transformer")
    composer, condition = composer.clone(attention_window=context), CONDITION[:2]
    policy = functools.partial(composer_policy, condition=condition)
    write = lambda key: compose(composer, params, key, 2, 100, make_policy=policy)
    melodies = jax.jit(write)(jax.random.key(3))
    read = score(composer, params, melodies.action, 1.0, condition)
    np.testing.assert_allclose(melodies.log_prob, read, atol=1e-5)
    if context == 70:
        monkeypatch.setattr(rollout, "SECTIONS", 1)
        whole = jax.jit(lambda key: write(key))(jax.random.key(3))
        np.testing.assert_array_equal(melodies.action, whole.action)


def test_the_context_grows_by_sections():
    """No longer than what was written, in at most four sizes of at least 32 notes."""
    sections = lambda context, length, body="transformer": rollout.sections(
        Composer(size=SIZE, body=body, attention_window=context), length
    )
    assert sections(8, 100) == [(0, 100, 8)]
    assert sections(48, 100) == [(0, 100, 48)]
    assert sections(64, 100) == [(0, 32, 32), (32, 100, 64)]
    assert sections(128, 100) == [(0, 33, 33), (33, 66, 66), (66, 100, 100)]
    assert sections(256, 1000) == [(0, 64, 64), (64, 128, 128), (128, 192, 192), (192, 1000, 256)]
    assert sections(256, 100, "lstm") == [(0, 100, 0)]


def test_a_key_is_a_melody():
    composer, params = make("lstm")
    keys = [jax.random.key(seed) for seed in (0, 0, 1)]
    first, again, other = (np.asarray(written(composer, params, key).action) for key in keys)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len(np.unique(first, axis=1).T) == B


def test_notes_follow_the_composer():
    composer, params = make("lstm")
    pairs = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")).reshape(2, -1)
    for temperature, count in ((1.0, 6000), (0.5, 6000)):
        melodies = written(composer, params, jax.random.key(5), temperature, melodies=count, length=2)
        tokens = np.asarray(melodies.action)
        expected = np.exp(score(composer, params, pairs, temperature).sum(axis=0)) * count
        counts = np.bincount(tokens[0] * SIZE + tokens[1], minlength=SIZE * SIZE)
        order = np.argsort(expected)
        counts, expected = (
            np.add.reduceat(x[order], [0, *range(12, SIZE * SIZE)]) for x in (counts, expected)
        )
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
    states = np.array([1, 2, 3])

    @jax.jit
    def play(states, key):
        found = rollout.rollout(
            policy, 2, jnp.zeros(3, int), states, key, 5, advance=advance, observe=lambda state: state % 5
        )
        return *found, jax.vmap(lambda key: jax.random.uniform(key, (3,)))(jax.random.split(key, 5))

    found, state, carry, drawn = jax.tree.map(np.asarray, play(states, jax.random.key(0)))
    expected = states
    for t in range(5):
        action = (expected % 5 + t + 2) % 7
        np.testing.assert_array_equal(found.observation[t], expected % 5)
        np.testing.assert_array_equal(found.action[t], action)
        np.testing.assert_array_equal(found.reward[t], expected * 10 + action)
        np.testing.assert_array_equal(found.log_prob[t], drawn[t])
        expected = expected + action
    np.testing.assert_array_equal(state, expected)
    np.testing.assert_array_equal(carry, 5)
