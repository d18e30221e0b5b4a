"""Measures of whole melodies that no learner has as an input and no reward is made of.

They are to `music.traits` what a test set is to a training set. None is a trait, a claim of a caption or a
term of a reward; each describes how notes follow each other, where the traits mostly count them:

tonal_clarity       highest correlation of the pitch classes with one of 24 keys (Krumhansl & Kessler 1982)
continuation        share of steps of one or two semitones that go on in the same direction (Narmour 1990)
leap_recovery       share of leaps of five semitones or more after which the direction turns
repeated_notes      share of intervals that are a repetition
phrase_regularity   1 minus the coefficient of variation of the lengths of phrases, at least 0; a phrase ends
                    with two beats or more to the next note
bar_similarity      autocorrelation of the pitch after a bar of 12 or of 16 steps, whichever is higher
rhythm_information  share of the entropy of the times from note to note that the time before each explains
high_long           correlation of the notes' pitches with the logarithms of their lengths

They were chosen before anything was judged by them, from seventeen candidates, among those of which the
sixteen traits and their squares explain less than half of the variance in folk tunes (by least squares, on
tunes not fitted: 1 to 45 %). Left out for that reason are the entropy of intervals (68 %), the
autocorrelation of onsets by bar (71 %) and the pairwise variability of durations (69 %).
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.traits import (
    MAJOR,
    MINOR,
    Notes,
    correlation,
    entropy,
    notes_of,
    pitch_classes,
    share,
)

NAMES: tuple[str, ...] = (
    "tonal_clarity",
    "continuation",
    "leap_recovery",
    "repeated_notes",
    "phrase_regularity",
    "bar_similarity",
    "rhythm_information",
    "high_long",
)
BARS = (12, 16)  # steps
STEP, LEAP = 2, 5  # semitones
PHRASE_END, LONGEST = 8, 16  # steps; longer times from note to note count as the longest


class _Moves(NamedTuple):
    """The moves from note to note of melodies, first the first, each (..., T).

    Attributes:
        interval: in semitones.
        gap: steps from onset to onset.
        exists: whether there is such a move; a melody has one less than notes.

    """

    interval: jax.Array
    gap: jax.Array
    exists: jax.Array


def held_out_traits(tokens: jax.Array) -> dict[str, jax.Array]:
    """The measures NAMES, each float32 (...), of melodies int (..., T) in the alphabet `MAGENTA`.

    They are finite for any tokens. A share of none is 0, but 1/2 for `leap_recovery`; its counts are smoothed
    by one leap of each kind, for many melodies have few leaps.
    """
    chex.assert_type(tokens, int)
    notes, moves = notes_of(tokens), _moves(tokens)
    later = _next(moves)
    small = moves.exists & (moves.interval != 0) & (jnp.abs(moves.interval) <= STEP) & later.exists
    leaps = moves.exists & (jnp.abs(moves.interval) >= LEAP) & later.exists
    turns = moves.interval * later.interval < 0
    values = {
        "tonal_clarity": _clarity(pitch_classes(notes)),
        "continuation": share(moves.interval * later.interval > 0, small),
        "leap_recovery": ((turns & leaps).sum(-1) + 1) / (leaps.sum(-1) + 2),
        "repeated_notes": share(moves.interval == 0, moves.exists),
        "phrase_regularity": _regularity(notes.onset),
        "bar_similarity": _bar_similarity(notes),
        "rhythm_information": _rhythm_information(moves, later),
        "high_long": _high_long(notes),
    }
    return {name: values[name].astype(jnp.float32) for name in NAMES}


def _moves(tokens: jax.Array) -> _Moves:
    begins = tokens >= MAGENTA.first
    onset = jnp.argsort(~begins, axis=-1, stable=True)  # the steps of the notes, then the others
    pitch = jnp.take_along_axis(tokens, onset, axis=-1)
    exists = jnp.arange(tokens.shape[-1]) + 1 < begins.sum(-1, keepdims=True)
    move = lambda x: jnp.where(exists, jnp.roll(x, -1, axis=-1) - x, 0)
    return _Moves(move(pitch), move(onset), exists)


def _next(moves: _Moves) -> _Moves:
    """The moves that follow each, none after the last."""
    return _Moves(*(jnp.roll(x, -1, axis=-1) for x in moves))  # the last of all never exists


def _clarity(weights: jax.Array) -> jax.Array:
    keys = [np.roll(profile, tonic) for profile in (MAJOR, MINOR) for tonic in range(12)]
    return jnp.stack([correlation(weights, key) for key in keys]).max(axis=0)


def _regularity(onset: jax.Array) -> jax.Array:
    """See `phrase_regularity`; a melody of one phrase is regular."""
    steps = onset.shape[-1]
    time = jnp.arange(steps + 1)
    begins = onset & (time[:-1] - _last_before(onset)[..., :-1] >= PHRASE_END)
    ends = jnp.concatenate([begins, jnp.ones_like(onset[..., :1])], axis=-1)
    length = jnp.where(ends, time - _last_before(begins), 0)
    mean = steps / ends.sum(-1)
    variance = (length**2).sum(-1) / ends.sum(-1) - mean**2
    return jnp.maximum(1 - jnp.sqrt(jnp.maximum(variance, 0)) / mean, 0)


def _last_before(marked: jax.Array) -> jax.Array:
    """The last marked step before each step (..., T) and before the end, int (..., T + 1); 0 if none is."""
    steps = jnp.where(marked, jnp.arange(marked.shape[-1]), 0)
    latest = jax.lax.cummax(steps, axis=marked.ndim - 1)
    return jnp.concatenate([jnp.zeros_like(latest[..., :1]), latest], axis=-1)


def _bar_similarity(notes: Notes) -> jax.Array:
    """See `bar_similarity`; 0 for a melody of one pitch. Before the first note its pitch counts as low."""
    first = jnp.where(notes.onset, notes.pitch, 128).min(-1, keepdims=True)
    centred = jnp.where(notes.pitch > 0, notes.pitch, first).astype(jnp.float32)
    centred -= centred.mean(-1, keepdims=True)
    power = jnp.maximum((centred**2).mean(-1), 1e-6)
    return jnp.stack([(centred[..., bar:] * centred[..., :-bar]).mean(-1) / power for bar in BARS]).max(
        axis=0
    )


def _rhythm_information(moves: _Moves, later: _Moves) -> jax.Array:
    """The mutual information of successive times from note to note over their entropy; 0 if all are equal."""
    own, following = (jnp.clip(x.gap, 1, LONGEST) - 1 for x in (moves, later))
    both = moves.exists & later.exists
    bits = lambda values, size: entropy(jnp.where(both, values, -1), range(size))
    alone, after = bits(own, LONGEST), bits(following, LONGEST)
    together = bits(own * LONGEST + following, LONGEST**2)
    return jnp.maximum(alone + after - together, 0) / jnp.maximum(after, 0.1)


def _high_long(notes: Notes) -> jax.Array:
    """See `high_long`; 0 where all pitches or all lengths are equal."""
    count = jnp.maximum(notes.onset.sum(-1, keepdims=True), 1)

    def centred(values: jax.Array) -> jax.Array:
        return jnp.where(notes.onset, values - (values * notes.onset).sum(-1, keepdims=True) / count, 0)

    pitch = centred(notes.pitch.astype(jnp.float32))
    length = centred(jnp.log2(jnp.maximum(notes.duration, 1).astype(jnp.float32)))
    product = jnp.sqrt((pitch**2).sum(-1) * (length**2).sum(-1))
    return (pitch * length).sum(-1) / jnp.maximum(product, 1e-6)
