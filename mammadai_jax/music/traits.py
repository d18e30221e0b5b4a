"""Traits of melodies: numbers that describe a whole melody as a listener perceives it.

Everything is computed from tokens of `MAGENTA` alone, for whole batches, under `jit`, and is finite for any
row of tokens. Melodies are in the scale of C (major on C, minor on A) and begin on a bar line.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.notes import MAGENTA

SCALE = (0, 2, 4, 5, 7, 9, 11)
# How well the twelve pitch classes fit a key on the first of them: Krumhansl & Kessler 1982.
MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
SHORTEST = 32  # steps
FARTHEST = 4.0  # deviations
LONGEST = 16  # steps; longer notes count as this length in "rhythm_variety"
WINDOW, NOTES = 12, 3  # least steps of a repeated passage, and least notes that begin in it
LAGS = 4  # a repetition is a multiple of so many steps later
# Metrical weight of each step, in duple bars (of 8 or 16 steps) and in bars of 12.
DUPLE = (3, 0, 1, 0, 2, 0, 1, 0)
TRIPLE = (2, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0)


# Mean and standard deviation of each trait in excerpts of 96 steps from folk tunes of all meters.
TYPICAL: Mapping[str, tuple[float, float]] = {
    "arch": (0.06, 2.5),
    "chromatic": (0.01, 0.03),
    "density": (5.7, 2.1),
    "leaps": (0.12, 0.09),
    "minor": (-2.2, 2.1),
    "pitch_variety": (2.6, 0.37),
    "range": (12.4, 3.6),
    "register": (65.0, 7.2),
    "repetition": (0.16, 0.17),
    "rests": (0.04, 0.05),
    "rhythm_variety": (1.2, 0.5),
    "slope": (0.06, 3.2),
    "stepwise": (0.68, 0.16),
    "syncopation": (0.007, 0.023),
    "tonic_end": (0.37, 0.48),
    "triple": (-0.2, 6.8),
}


class Notes(NamedTuple):
    """The notes of melodies step by step, each (..., T).

    Attributes:
        onset: whether a note begins.
        sounds: whether a note sounds.
        pitch: MIDI pitch of the sounding note, else of the last one; 0 before the first.
        before: MIDI pitch of the last note before this step; 0 if there is none.
        duration: steps from here to the next note or silence.

    """

    onset: jax.Array
    sounds: jax.Array
    pitch: jax.Array
    before: jax.Array
    duration: jax.Array


def standardized_traits(tokens: jax.Array) -> jax.Array:
    """The traits of melodies int32 (..., T), standardised by `TYPICAL`, in its order: float32 (..., traits).

    They are inputs of networks, clipped to within FARTHEST standard deviations.
    """
    values = traits(tokens)
    z = [(values[name] - mean) / scale for name, (mean, scale) in TYPICAL.items()]
    return jnp.clip(jnp.stack(z, axis=-1), -FARTHEST, FARTHEST)


def prefix_traits(tokens: jax.Array, every: int) -> jax.Array:
    """`standardized_traits` of the first 0, `every`, 2 `every`, ... steps of melodies int32 (N, T).

    The rest counts as silence. float32 (N, ceil(T / every), traits).
    """
    chex.assert_rank(tokens, 2)
    steps = tokens.shape[-1]
    prefix = jnp.arange(0, steps, every)[:, None] > jnp.arange(steps)
    return standardized_traits(jnp.where(prefix, tokens[:, None], MAGENTA.silence))


def traits(tokens: jax.Array) -> dict[str, jax.Array]:
    """Traits by name, each float32 (...), of melodies int32 (..., T) in the alphabet `MAGENTA`.

    register: mean MIDI pitch of the sounding steps (the middle of the alphabet if there are none).
    range: semitones from the lowest note to the highest.
    density: notes in 16 steps.
    slope: mean pitch of the last third minus that of the first.
    arch: mean pitch of the middle third minus the mean of the outer two.
    minor: evidence for A minor against C major, see `minor`; above 0 it is minor.
    triple: evidence for bars of 12 steps against those of 8 or 16, see `triple`; above 0 they have 12.
    repetition: share of steps in passages of 12 steps and three notes or more that repeat an earlier one.
    rests: share of steps in silence.
    stepwise: share of intervals of 2 semitones or less (0 without intervals).
    leaps: share of intervals of 5 semitones or more.
    chromatic: share of notes outside the scale of C major.
    syncopation: share of notes that begin on a weaker step and sound on over a stronger one.
    rhythm_variety, pitch_variety: entropy in bits of the lengths of notes and of their pitches.
    tonic_end: 1 if the last note is the tonic of the more likely mode, C or A, else 0.

    ValueError for fewer than SHORTEST steps.
    """
    steps = tokens.shape[-1]
    if steps < SHORTEST:
        raise ValueError(f"traits need melodies of {SHORTEST} steps or more, got {steps}")
    notes = notes_of(tokens)
    mean, contour = _contour(notes)
    last, minor_, triple_ = _heard(notes)
    interval = jnp.abs(notes.pitch - notes.before)
    follows = notes.onset & (notes.before > 0)
    values = {
        "register": mean,
        "range": _range(notes),
        "density": notes.onset.sum(-1) * (16 / steps),
        **contour,
        "minor": minor_,
        "triple": triple_,
        "repetition": _repetition(tokens),
        "rests": (~notes.sounds).mean(-1),
        "stepwise": share(interval <= 2, follows),
        "leaps": share(interval >= 5, follows),
        "chromatic": share(~jnp.isin(notes.pitch % 12, jnp.array(SCALE)), notes.onset),
        "syncopation": _syncopation(notes, triple_),
        "rhythm_variety": entropy(
            jnp.where(notes.onset, jnp.minimum(notes.duration, LONGEST), 0), range(1, LONGEST + 1)
        ),
        "pitch_variety": entropy(
            jnp.where(notes.onset, notes.pitch, 0), range(MAGENTA.lowest, MAGENTA.highest + 1)
        ),
        "tonic_end": (last > 0) & (last % 12 == jnp.where(minor_ > 0, 9, 0)),
    }
    return {name: value.astype(jnp.float32) for name, value in values.items()}


def heard(tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The traits minor and triple (...,) of melodies int32 (..., T), alone: a smaller program than all."""
    return _heard(notes_of(tokens))[1:]


def _heard(notes: Notes) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The last pitch, minor and triple (...,)."""
    last = notes.pitch[..., -1]
    return last, minor(pitch_classes(notes), last), triple(jnp.where(notes.onset, notes.duration, 0))


def notes_of(tokens: jax.Array) -> Notes:
    """The notes of melodies int (..., T) in the alphabet `MAGENTA`, step by step."""
    time = jnp.arange(tokens.shape[-1])
    onset = tokens >= MAGENTA.first
    midi = jnp.where(onset, tokens - MAGENTA.first + MAGENTA.lowest, 0)
    event = tokens != MAGENTA.hold

    def latest(where: jax.Array) -> jax.Array:
        return jax.lax.cummax(jnp.where(where, time, -1), axis=tokens.ndim - 1)

    def pitch_at(index: jax.Array) -> jax.Array:
        return jnp.where(index >= 0, jnp.take_along_axis(midi, jnp.maximum(index, 0), axis=-1), 0)

    note = latest(onset)
    earlier = jnp.concatenate([jnp.full_like(note[..., :1], -1), note[..., :-1]], axis=-1)
    ends = jax.lax.cummin(jnp.where(event, time, len(time)), axis=tokens.ndim - 1, reverse=True)
    ends = jnp.concatenate([ends[..., 1:], jnp.full_like(ends[..., :1], len(time))], axis=-1)
    return Notes(onset, (note >= 0) & (note == latest(event)), pitch_at(note), pitch_at(earlier), ends - time)


def share(chosen: jax.Array, among: jax.Array) -> jax.Array:
    """The share of `among` (..., T) that is `chosen`; 0 where `among` is all false."""
    return (chosen & among).sum(-1) / jnp.maximum(among.sum(-1), 1)


def _range(notes: Notes) -> jax.Array:
    highest = jnp.where(notes.onset, notes.pitch, 0).max(-1)
    lowest = jnp.where(notes.onset, notes.pitch, 128).min(-1)
    return jnp.maximum(highest - lowest, 0)


def _contour(notes: Notes) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean pitch, slope and arch over the thirds of the melody; a silent third counts as the mean."""

    def mean(part: slice, otherwise: jax.Array | float) -> jax.Array:
        sounds = notes.sounds[..., part]
        total = jnp.where(sounds, notes.pitch[..., part], 0).sum(-1)
        return jnp.where(sounds.any(-1), total / jnp.maximum(sounds.sum(-1), 1), otherwise)

    steps = notes.onset.shape[-1]
    whole = mean(slice(None), (MAGENTA.lowest + MAGENTA.highest) / 2)
    cuts = (0, steps // 3, steps - steps // 3, steps)
    first, middle, last = (mean(slice(a, b), whole) for a, b in itertools.pairwise(cuts))
    return whole, {"slope": last - first, "arch": middle - (first + last) / 2}


def pitch_classes(notes: Notes) -> jax.Array:
    """How many steps each pitch class sounds, float32 (..., 12)."""
    return _counts(jnp.where(notes.sounds, notes.pitch % 12, -1), range(12)).astype(float)


def _counts(values: jax.Array, among: range) -> jax.Array:
    """How often each number of `among` occurs in the values (..., T): int32 (..., len(among))."""
    return (values[..., None] == jnp.arange(among.start, among.stop)).sum(-2)


def correlation(weights: jax.Array, profile: np.ndarray) -> jax.Array:
    """Pearson's correlation of (..., 12) with (12,); 0 where all weights are equal."""
    centred = weights - weights.mean(-1, keepdims=True)
    profile = (profile - profile.mean()) / np.linalg.norm(profile - profile.mean())
    return centred @ profile.astype(np.float32) / jnp.maximum(jnp.linalg.norm(centred, axis=-1), 1e-6)


def minor(weights: jax.Array, last: jax.Array) -> jax.Array:
    """Evidence (...,) for A minor against C major: log odds, if one tune in four were in minor.

    Arguments: `weights` (..., 12), how long each pitch class sounds; `last` (...,), the MIDI pitch of the
    last note.
    The evidence is the difference of the correlations with the profiles of A minor and C major (Krumhansl &
    Schmuckler), and an end on C. The three coefficients were fitted by logistic regression on whole-bar
    excerpts of 96 steps of folk melodies, minor ones with weight 3. On held-out excerpts in major or minor
    91 % agree with the notated mode, 84 % averaged over the two modes.
    """
    better = correlation(weights, np.roll(MINOR, 9)) - correlation(weights, MAJOR)
    return 8.4 * better - 1.2 * ((last > 0) & (last % 12 == 0)) - 0.23


def triple(lengths: jax.Array) -> jax.Array:
    """Evidence (...,) for bars of 12 steps (3/4, 6/8) against those of 8 or 16: log odds.

    `lengths` (..., T): duration in steps of the note that begins there, 0 where none begins. Its square root
    is the stress. The evidence is the autocorrelation of the stress at 8, 12, 16 and 24 steps (Brown 1993)
    and the share of it on the beginnings of bars of 12 and of 8 steps and of half bars of 6. The coefficients
    were fitted by logistic regression as those of `minor`. On held-out excerpts 95 % agree with the notated
    meter: 99 % in bars of 8 steps, 95 % in bars of 16 and 93 % in bars of 12.
    """
    stress = jnp.sqrt(lengths.astype(jnp.float32))
    mean = jnp.maximum(stress.mean(-1), 1e-6)
    lags = {8: -6.0, 12: 11.0, 16: -13.0, 24: 14.0}
    combs = {12: 2.1, 8: -2.7, 6: 2.8}
    evidence = jnp.full(stress.shape[:-1], -10.0)
    for lag, weight in lags.items():
        evidence += weight * autocorrelation(stress, lag)
    for bar, weight in combs.items():
        evidence += weight * stress[..., ::bar].mean(-1) / mean
    return evidence


def autocorrelation(stress: jax.Array, lag: int) -> jax.Array:
    """Autocorrelation of stress (..., T) at `lag`, without subtracting the mean: 0..1; 0 if it is all 0."""
    product = (stress[..., lag:] * stress[..., :-lag]).sum(-1) / (stress.shape[-1] - lag)
    return product / jnp.maximum((stress**2).mean(-1), 1e-6)


def _repetition(tokens: jax.Array) -> jax.Array:
    """The share of steps in a passage of `WINDOW` steps that equals one a multiple of `LAGS` steps before."""
    steps = tokens.shape[-1]
    time = jnp.arange(steps)

    def window_sum(values: jax.Array) -> jax.Array:
        """Sums over the last `WINDOW` steps."""
        sums = jnp.cumsum(values, axis=-1, dtype=jnp.int32)
        return sums - jnp.where(time >= WINDOW, jnp.roll(sums, WINDOW, axis=-1), 0)

    full = window_sum(tokens >= MAGENTA.first) >= NOTES

    def mark(repeated: jax.Array, lag: jax.Array) -> tuple[jax.Array, None]:
        equal = (tokens == jnp.roll(tokens, lag, axis=-1)) & (time >= lag)
        return repeated | ((window_sum(equal) == WINDOW) & full), None

    none = jnp.zeros(tokens.shape, bool)
    ends, _ = jax.lax.scan(mark, none, jnp.arange(LAGS, steps - WINDOW + 1, LAGS))
    covered = jnp.flip(window_sum(jnp.flip(ends, -1)), -1) > 0
    return covered.mean(-1)


def _syncopation(notes: Notes, triple_: jax.Array) -> jax.Array:
    steps = notes.onset.shape[-1]
    distances = [jnp.asarray(np.resize(_steps_to_stronger(weights), steps)) for weights in (DUPLE, TRIPLE)]
    return share(notes.duration > jnp.where(triple_[..., None] > 0, distances[1], distances[0]), notes.onset)


def _steps_to_stronger(weights: tuple[int, ...]) -> np.ndarray:
    """Steps from each step of the bar to the next one of more weight; the largest int32 where none has."""
    ring, bar = weights * 2, len(weights)
    later = [[d for d in range(1, bar) if ring[step + d] > ring[step]] for step in range(bar)]
    return np.array([distances[0] if distances else np.iinfo(np.int32).max for distances in later])


def entropy(values: jax.Array, among: range) -> jax.Array:
    """Entropy in bits of the values (..., T) that are in `among`; 0 if none is."""
    counts = _counts(values, among)
    shares = counts / jnp.maximum(counts.sum(-1, keepdims=True), 1)
    return -(shares * jnp.log2(jnp.maximum(shares, 1e-9))).sum(-1)
