"""Features of frames of several voices, and of a decision among them, as rows of zeros and ones.

Those of a decision are relative to the pitch that its voice moves from, and so the same in every key, but for
the columns of what its voice sounded and of what was decided for others. `relative_logits` turns outputs
of a network into logits of intervals from that pitch.
"""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.networks.frames import Frames, View
from mammadai_jax.networks.longest_match import KINDS, kind

AGES = 17  # 0 to 15 frames, and more
REACH = 16  # the largest interval, in semitones, that is told from larger ones
PHRASE = 8  # bars after which their number repeats, and quarters from the beginning that are told apart


def of_frame(frames: Frames, view: View, times: jax.Array) -> jax.Array:
    """Features (..., F) of all that a view (..., V) shows at the frames `times` int (...)."""
    chex.assert_equal_shape([view.ages, view.sounding])
    rows = [
        jax.nn.one_hot(view.sounding, frames.size + 1),
        _ages(view.ages),
        _classes(frames, view.sounding, view.sounding[..., -1:]),
        _intervals(frames, view.lines[..., 0, :], view.sounding),
        view.classes,
        jax.nn.one_hot(kind(view.lengths[..., 0, 0]), KINDS),
        _place(times, frames.steps_per_quarter),
    ]
    return _joined(rows, times)


def of_decision(
    frames: Frames, view: View, times: jax.Array, decided: jax.Array, order: Sequence[int]
) -> jax.Array:
    """Features (..., F) of the decision of a voice.

    Args:
        frames: how frames are read.
        view: of the frames before, (..., V).
        times: number of the frame, int (...).
        decided: tokens int (..., K) of the voices that are decided.
        order: these voices, and after them the one whose decision it is.

    """
    chex.assert_axis_dimension(decided, -1, len(order) - 1)
    chex.assert_equal_shape_prefix([times, decided], times.ndim)
    *others, voice = order
    own, home = view.sounding[..., voice], centre(frames, view, voice)[..., None]
    rows = [
        _classes(frames, view.sounding, home),
        jax.nn.one_hot(own, frames.size + 1),
        _intervals(frames, view.lines[..., voice], home),
        _ages(view.ages[..., voice]),
        _turned(view.classes, home),
        _place(times, frames.steps_per_quarter),
        *_repetitions(frames, view, decided, order),
    ]
    if others:
        rows += _motions(frames, decided, view.sounding[..., np.array(others)], home)
    return _joined(rows, times)


def centre(frames: Frames, view: View, voice: int) -> jax.Array:
    """The token (...) that a voice moves from: what sounds, after a pitch that ended that pitch."""
    now = view.sounding[..., voice]
    return jnp.where(frames.is_pitch(now), now, view.lines[..., 0, voice])


def relative_logits(frames: Frames, outputs: jax.Array, home: jax.Array) -> jax.Array:
    """Logits (..., size) of outputs (..., 2 REACH + 1) for the intervals from the token `home` (...).

    They are zero for tokens that are no pitches or farther away, and for all if `home` is no pitch.
    """
    chex.assert_equal_shape_prefix([outputs, home], home.ndim)
    tokens = jnp.arange(frames.size)
    interval = tokens - home[..., None]
    counted = frames.is_pitch(tokens) & frames.is_pitch(home)[..., None] & (jnp.abs(interval) <= REACH)
    logits = jnp.take_along_axis(outputs, jnp.clip(interval + REACH, 0, 2 * REACH), axis=-1)
    return jnp.where(counted, logits, 0.0)


def _motions(frames, tokens, before, home):
    """How decided voices (..., K) moved, and where they are from the voice that is decided now."""
    now = frames.sound(tokens, before)
    rows = [
        _intervals(frames, now, before),
        _intervals(frames, now, home),
        _classes(frames, now, home),
        jax.nn.one_hot(now, frames.size),
    ]
    return [*rows, (tokens == now).astype(jnp.float32)] if frames.hold else rows


def _repetitions(frames, view, decided, order):
    """What followed the longest repetitions, how long they are, and whether this frame goes on with them."""
    *others, voice = order
    home, own = centre(frames, view, voice)[..., None], view.sounding[..., voice][..., None]
    followed = view.followed[..., voice]  # (..., 2)
    expected = view.followed[..., np.array(others, int)]
    agrees = (expected == decided[..., None, :]).all(axis=-1)
    lengths = kind(view.lengths[..., voice]) + KINDS * agrees
    sounding = frames.sound(followed, jnp.broadcast_to(own, followed.shape))
    return [_intervals(frames, sounding, home), jax.nn.one_hot(lengths, 2 * KINDS)]


def _turned(classes, home):
    """Shares (..., D, 12) of pitch classes, counted from that of the token `home` (..., 1)."""
    places = (jnp.arange(12) + (home - 1) % 12) % 12
    return jnp.take_along_axis(classes, places[..., None, :], axis=-1)


def _intervals(frames, tokens, home):
    """Semitones from `home`, clipped to REACH, in 2 REACH + 2 columns: the last where either is no pitch."""
    steps = jnp.clip(tokens - home, -REACH, REACH) + REACH
    pitched = frames.is_pitch(tokens) & frames.is_pitch(home)
    return jax.nn.one_hot(jnp.where(pitched, steps, 2 * REACH + 1), 2 * REACH + 2)


def _classes(frames, tokens, home):
    """The same modulo an octave, in 13 columns."""
    pitched = frames.is_pitch(tokens) & frames.is_pitch(home)
    return jax.nn.one_hot(jnp.where(pitched, (tokens - home) % 12, 12), 13)


def _ages(ages):
    return jax.nn.one_hot(jnp.minimum(ages, AGES - 1), AGES)


def _place(times, quarter):
    """The place in bars of three and four quarters, the bar, and the quarters from the beginning."""
    bar = 4 * quarter
    return jnp.concatenate(
        [
            jax.nn.one_hot(times % (3 * quarter), 3 * quarter),
            jax.nn.one_hot(times % bar, bar),
            jax.nn.one_hot(times // bar % PHRASE, PHRASE),
            jax.nn.one_hot(jnp.minimum(times // quarter, PHRASE - 1), PHRASE),
        ],
        axis=-1,
    )


def _joined(rows, like):
    return jnp.concatenate([row.reshape(*like.shape, -1) for row in rows], axis=-1)
