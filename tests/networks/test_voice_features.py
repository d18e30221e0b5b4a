import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks import voice_features
from mammadai_jax.networks.frames import Frames
from mammadai_jax.networks.voice_features import REACH

FRAMES = Frames(40, 3, False, 2, 8)
PIECE = np.random.default_rng(0).integers(5, 30, (20, 2, 3))
STARTS = np.arange(20)[:, None] == np.array([0, 3])


def view_of(piece):
    return jax.jit(FRAMES.views)(piece, STARTS)


def features(piece, decided=()):
    view, times = view_of(piece), np.broadcast_to(np.arange(20)[:, None], (20, 2))
    rows = piece[..., list(decided)] + 1
    call = jax.jit(voice_features.of_decision, static_argnums=(0, 4))
    return np.asarray(call(FRAMES, view, times, rows, (*decided, 1)))


def test_features_of_a_decision_are_zeros_and_ones_and_shares():
    plain, more = features(PIECE), features(PIECE, (0, 2))
    assert plain.shape[:2] == more.shape[:2] == (20, 2) and more.shape[2] > plain.shape[2]
    assert plain.min() == more.min() == 0 and plain.max() == more.max() == 1


@pytest.mark.parametrize("semitones", [1, 5])
def test_only_columns_of_absolute_pitches_change_with_the_key(semitones):
    """What sounds and what was decided is there as it is, too: one column of a voice is another."""
    before, after = features(PIECE, (0, 2)), features(PIECE + semitones, (0, 2))
    changed = np.flatnonzero((np.abs(before - after) > 1e-6).any(axis=(0, 1)))
    columns = [range(39, 39 + 41)]  # after the classes of three voices
    assert {*changed} & {*columns[0]}
    one_hot = 41 + 2 * FRAMES.size
    assert 0 < len(changed) <= one_hot
    kept = np.setdiff1d(np.arange(before.shape[-1]), changed)
    assert (before[..., kept].std(axis=0) > 0).any(axis=0).sum() > 150  # of them most say something


def test_logits_of_intervals_by_hand(transform):
    outputs = jnp.arange(2 * REACH + 1.0)[None].repeat(3, axis=0) + 1
    relative = transform(lambda outputs, home: voice_features.relative_logits(FRAMES, outputs, home))
    logits = np.asarray(relative(outputs, jnp.array([5, 0, 39])))
    assert logits.shape == (3, 40)
    np.testing.assert_array_equal(logits[0, :8], [0, *np.arange(1, 8) - 5 + REACH + 1])
    np.testing.assert_array_equal(logits[0, 5 + REACH :], [2 * REACH + 1, *[0] * (34 - REACH)])
    np.testing.assert_array_equal(logits[1], 0)  # a silence has no intervals
    np.testing.assert_array_equal(logits[2, -1], REACH + 1)


def test_a_voice_moves_from_its_last_pitch():
    piece = np.array([[0, 0, 0], [7, 8, 9], [0, 8, 0], [0, 6, 0]])[:, None]
    view = jax.jit(FRAMES.views)(piece, np.arange(4)[:, None] == 0)
    home = [np.asarray(voice_features.centre(FRAMES, view, voice))[:, 0] for voice in (0, 1)]
    np.testing.assert_array_equal(home[0][1:], [7, 7, 7])
    np.testing.assert_array_equal(home[1][1:], [8, 8, 6])
    assert not FRAMES.is_pitch(home[0][0])


def test_other_shapes_are_refused():
    view = view_of(PIECE)
    with pytest.raises(AssertionError):
        voice_features.of_decision(FRAMES, view, np.zeros((20, 2), int), np.zeros((20, 2, 2), int), (0, 1))
    with pytest.raises(AssertionError):
        voice_features.relative_logits(FRAMES, np.zeros((2, 2 * REACH + 1)), np.zeros(3, int))
