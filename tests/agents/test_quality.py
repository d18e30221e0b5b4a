import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.agents import quality, reward_model
from mammadai_jax.networks.composer import Composer

T = 48
COMPOSER = Composer(38, body="transformer", width=16, layers=1, heads=2, lookback=())
SCALE = np.array([0, 2, 4, 5, 7, 9, 11, 12])
corrupt = jax.jit(quality.corrupt, static_argnums=3)
update = jax.jit(quality.step, static_argnums=2)


def tunes(count, seed=0):
    """Eighth notes that walk along the scale of C, ending on a long one."""
    random = np.random.default_rng(seed)
    steps = np.abs((random.integers(-1, 2, (count, T // 2)).cumsum(axis=1) + 3) % 14 - 7)
    tokens = np.zeros((count, T), np.int32)
    tokens[:, ::2] = 14 + SCALE[steps]
    return jnp.asarray(tokens)


TUNES = tunes(64)


def test_without_strength_nothing_happens():
    anything = jnp.asarray(np.random.default_rng(0).integers(0, 38, (64, T)))
    for seed in range(3):
        np.testing.assert_array_equal(corrupt(jax.random.key(seed), anything, 0.0), anything)


def test_shape_and_alphabet_stay():
    for strength in (0.1, 0.5, 1.0):
        found = corrupt(jax.random.key(1), TUNES, strength)
        assert found.shape == TUNES.shape
        assert found.dtype == TUNES.dtype
        assert found.min() >= 0 and found.max() < 38
        assert (found[:, 0] != 0).all(), "a melody does not begin with a hold"


def test_damage_grows_with_strength_and_is_each_melodys_own():
    share = lambda s: float((corrupt(jax.random.key(0), TUNES, s) != TUNES).mean())
    shares = [share(s) for s in (0.1, 0.4, 0.7, 1.0)]
    assert (np.diff(shares) > 0.02).all(), shares
    strength = jnp.where(jnp.arange(64) < 32, 0.0, 1.0)
    found = corrupt(jax.random.key(0), TUNES, strength)
    np.testing.assert_array_equal(found[:32], TUNES[:32])
    assert (found[32:] != TUNES[32:]).any(axis=1).all()
    assert (corrupt(jax.random.key(5), TUNES, 0.5) != corrupt(jax.random.key(6), TUNES, 0.5)).any()


def test_bars_are_exchanged_whole():
    tokens = jnp.arange(50) + 100
    for seed in range(5):
        found = np.asarray(quality._shuffle_bars(jax.random.key(seed), tokens, 1.0, 12))
        np.testing.assert_array_equal(found[48:], tokens[48:])
        bars = found[:48].reshape(4, 12)
        np.testing.assert_array_equal(bars - bars[:, :1], np.tile(np.arange(12), (4, 1)))
        assert sorted(bars[:, 0]) == [100, 112, 124, 136]
    found = quality._shuffle_bars(jax.random.key(0), tokens, 0.0, 12)
    np.testing.assert_array_equal(found, tokens)


def test_a_transposed_fragment_leaves_the_scale():
    moved = quality._transpose(jax.random.key(0), TUNES[0], 0.5)
    hit = np.flatnonzero(moved != TUNES[0])
    interval = np.asarray(moved - TUNES[0])[hit]
    assert len(set(interval)) == 1 and interval[0] in (-6, -1, 1, 6)
    assert len(hit) == T // 4 and np.ptp(hit) < T // 2
    edge = quality._transpose(jax.random.key(0), jnp.full(9, 37), 1.0)
    assert edge.min() >= 2 and edge.max() <= 37


def test_shifted_events_keep_their_order():
    pitches = lambda row: [int(token) for token in row if token]
    for seed in range(3):
        found = quality._shift(jax.random.key(seed), TUNES[0], 0.5)
        assert pitches(found) == pitches(TUNES[0])
        assert (found != TUNES[0]).any()
    # where there is room for all, each moves by a step at full strength
    sparse = jnp.where(jnp.arange(48) % 4 == 1, 5, 0)
    places = np.flatnonzero(quality._shift(jax.random.key(0), sparse, 1.0))
    assert set(np.abs(places - np.arange(1, 48, 4))) == {1}
    assert set(places - np.arange(1, 48, 4)) == {-1, 1}


def test_held_notes_are_a_fragment():
    found = quality._hold(jax.random.key(0), jnp.full(20, 5), 0.6)
    held = np.flatnonzero(found == 0)
    np.testing.assert_array_equal(held, held[0] + np.arange(6))


@pytest.fixture(scope="module")
def learned():
    config = quality.Config(heads=2, batch=32, epochs=60.0, learning_rate=5e-3)
    strength = jnp.tile(jnp.linspace(0.0, 1.0, 16), 24)
    data = quality.Excerpts(corrupt(jax.random.key(9), tunes(384), strength), 1.0 - strength)

    @jax.jit
    def train(key):
        learn = lambda state, _: quality.step(state, config, COMPOSER, data)
        return jax.lax.scan(learn, quality.init(key, config, COMPOSER), length=300)

    state, metrics = train(jax.random.key(0))
    return config, state, metrics


def test_quality_falls_with_damage(learned):
    config, state, metrics = learned
    assert metrics["error"][-20:].mean() < 0.7 * metrics["error"][:20].mean()
    score = functools.partial(quality.score, state.params, config, COMPOSER)
    fresh = tunes(64, 2)
    means = []
    for strength in (0.0, 0.5, 1.0):
        mean, std = score(corrupt(jax.random.key(3), fresh, strength))
        assert mean.shape == std.shape == (64,)
        assert mean.min() >= 0 and mean.max() <= 1
        means.append(float(mean.mean()))
    assert means[0] - 0.1 > means[1] > means[2] + 0.1, means
    assert means[0] - means[2] > 0.4


def test_updates_are_functions_of_the_state():
    config = quality.Config(heads=2, batch=8)
    data = quality.Excerpts(TUNES, jnp.ones(64))
    state = jax.jit(reward_model.init, static_argnums=2)(jax.random.key(0), config, COMPOSER)
    (one, first), (two, second) = (update(state, config, COMPOSER, data) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, (one.params, first), (two.params, second))
    _, third = update(one, config, COMPOSER, data)
    assert third["loss"] != first["loss"]
