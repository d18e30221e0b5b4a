import jax
import numpy as np
import pytest
from scipy.special import expit

from mammadai_jax.agents import quality, reward_model
from mammadai_jax.learning import epochs
from tests.agents.table import Table

T = 48
COMPOSER = Table(38, width=8, lookback=())
SCALE = np.array([0, 2, 4, 5, 7, 9, 11, 12])
corrupt_each = jax.jit(quality.corrupt, static_argnums=3)
update = jax.jit(quality.step, static_argnums=2)
start = jax.jit(reward_model.init, static_argnums=2)
shuffle_bars = jax.jit(quality._shuffle_bars, static_argnums=3)
transpose, shift, hold = map(jax.jit, (quality._transpose, quality._shift, quality._hold))


def corrupt(key, tokens, strength):
    """The melodies damaged, all by one strength or each by its own."""
    strength = np.broadcast_to(np.asarray(strength, np.float32), tokens.shape[:1])
    return np.asarray(corrupt_each(key, tokens, strength))


def tunes(count, seed=0):
    """Eighth notes that walk along the scale of C, ending on a long one."""
    random = np.random.default_rng(seed)
    steps = np.abs((random.integers(-1, 2, (count, T // 2)).cumsum(axis=1) + 3) % 14 - 7)
    tokens = np.zeros((count, T), np.int32)
    tokens[:, ::2] = 14 + SCALE[steps]
    return tokens


TUNES = tunes(64)


def test_without_strength_nothing_happens():
    anything = np.random.default_rng(0).integers(0, 38, (64, T), np.int32)
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
    strength = np.where(np.arange(64) < 32, 0.0, 1.0)
    found = corrupt(jax.random.key(0), TUNES, strength)
    np.testing.assert_array_equal(found[:32], TUNES[:32])
    assert (found[32:] != TUNES[32:]).any(axis=1).all()
    assert (corrupt(jax.random.key(5), TUNES, 0.5) != corrupt(jax.random.key(6), TUNES, 0.5)).any()


def test_bars_are_exchanged_whole():
    tokens = np.arange(50, dtype=np.int32) + 100
    for seed in range(5):
        found = np.asarray(shuffle_bars(jax.random.key(seed), tokens, 1.0, 12))
        np.testing.assert_array_equal(found[48:], tokens[48:])
        bars = found[:48].reshape(4, 12)
        np.testing.assert_array_equal(bars - bars[:, :1], np.tile(np.arange(12), (4, 1)))
        assert sorted(bars[:, 0]) == [100, 112, 124, 136]
    found = shuffle_bars(jax.random.key(0), tokens, 0.0, 12)
    np.testing.assert_array_equal(found, tokens)


def test_a_transposed_fragment_leaves_the_scale():
    moved = np.asarray(transpose(jax.random.key(0), TUNES[0], 0.5))
    hit = np.flatnonzero(moved != TUNES[0])
    interval = np.asarray(moved - TUNES[0])[hit]
    assert len(set(interval)) == 1 and interval[0] in (-6, -1, 1, 6)
    assert len(hit) == T // 4 and np.ptp(hit) < T // 2
    edge = transpose(jax.random.key(0), np.full(T, 37, np.int32), 1.0)
    assert edge.min() >= 2 and edge.max() <= 37


def test_shifted_events_keep_their_order():
    pitches = lambda row: [int(token) for token in row if token]
    for seed in range(3):
        found = np.asarray(shift(jax.random.key(seed), TUNES[0], 0.5))
        assert pitches(found) == pitches(TUNES[0])
        assert (found != TUNES[0]).any()
    # where there is room for all, each moves by a step at full strength
    sparse = np.where(np.arange(48) % 4 == 1, 5, 0).astype(np.int32)
    places = np.flatnonzero(shift(jax.random.key(0), sparse, 1.0))
    assert set(np.abs(places - np.arange(1, 48, 4))) == {1}
    assert set(places - np.arange(1, 48, 4)) == {-1, 1}


def test_held_notes_are_a_fragment():
    found = hold(jax.random.key(0), np.full(20, 5, np.int32), 0.6)
    held = np.flatnonzero(found == 0)
    np.testing.assert_array_equal(held, held[0] + np.arange(6))


CONFIG = quality.Config(ensemble_size=2, batch_size=32, num_epochs=10.0, learning_rate=3e-2)
STRENGTH = np.tile(np.linspace(0.0, 1.0, 16, dtype=np.float32), 24)


@pytest.fixture(scope="module")
def learned():
    data = quality.Excerpts(corrupt(jax.random.key(9), tunes(384), STRENGTH), 1.0 - STRENGTH)
    state, told = start(jax.random.key(0), CONFIG, COMPOSER), []
    for _ in range(120):
        state, metrics = update(state, CONFIG, COMPOSER, data)
        told.append(metrics)
    return state, jax.tree.map(lambda *rows: np.stack(rows), *told), data


def test_quality_falls_with_damage(learned):
    state, metrics, _ = learned
    assert metrics["error"][-20:].mean() < 0.7 * metrics["error"][:20].mean()
    score = jax.jit(quality.score, static_argnums=2)
    fresh, means = tunes(64, 2), []
    for strength in (0.0, 0.5, 1.0):
        damaged = corrupt(jax.random.key(3), fresh, strength)
        mean, std = score(state.params, CONFIG, COMPOSER, damaged)
        assert mean.shape == std.shape == (64,)
        assert mean.min() >= 0 and mean.max() <= 1
        means.append(float(mean.mean()))
    assert means[0] - 0.1 > means[1] > means[2] + 0.1, means
    assert means[0] - means[2] > 0.4
    each = jax.jit(reward_model.rewards, static_argnums=2)(state.params, CONFIG, COMPOSER, None, damaged)
    np.testing.assert_allclose(mean, expit(each).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(std, expit(each).std(axis=0), atol=1e-5)


def test_the_loss_is_a_cross_entropy_and_updates_are_functions_of_the_state(learned):
    state, _, data = learned
    (one, first), (two, second) = (update(state, CONFIG, COMPOSER, data) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, (one.params, first), (two.params, second))
    _, third = update(one, CONFIG, COMPOSER, data)
    assert third["loss"] != first["loss"]
    chosen = np.asarray(epochs.minibatch(state.key, state.update, CONFIG, 384))
    rewards = jax.jit(reward_model.rewards, static_argnums=2)
    found, target = (
        expit(rewards(state.params, CONFIG, COMPOSER, None, data.tokens)[:, chosen]),
        data.target[chosen],
    )
    nats = -target * np.log(found) - (1 - target) * np.log(1 - found)
    np.testing.assert_allclose(first["loss"], nats.mean(), rtol=1e-4)
    np.testing.assert_allclose(first["error"], np.abs(found.mean(axis=0) - target).mean(), rtol=1e-4)
