"""The nine rules of RL Tuner and their names."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.theory import motifs
from mammadai_jax.music.theory.melody import (
    FIRST,
    LAGS,
    SIZE,
    Config,
    State,
    extremes,
    last,
    leap,
    motif_pitches,
    repetition,
    sums,
    token,
)

Rule = Callable[[State, jax.Array, Config], jax.Array]

# Autocorrelation beyond which there is a penalty. At exactly 0.15 the released program's rounding decides,
# mostly for none; the margin gives none whatever the order of operations here.
THRESHOLD = 0.15 * (1 + 1e-6)
# Reward of an interval by its semitones; fifths and thirds within the tonic's chord earn more.
INTERVALS = np.zeros(SIZE, np.float32)
INTERVALS[[2, 4, 5, 7, 9, 11]] = 0.4, 0.45, 0.35, 0.1, 0.25, -1.5
INTERVALS[13:] = -5.0


def key(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for a pitch outside the key, else 0: ()."""
    del state
    return jnp.where(jnp.asarray(config.key)[token(action)], 0.0, -1.0)


def tonic(state: State, action: jax.Array, config: Config) -> jax.Array:
    """+3 for the tonic as first note, and for each step of the final bar that strikes, holds or releases it.

    It must be held for half of the final bar. (For 4 steps: tonic, no event, and twice any special event.)
    """
    place = state.time - (config.length - config.ending)
    tonic_due = (state.time == 0) | (place == 0)
    hold_due = (place > 0) & (2 * place < config.ending)
    rest_due = (place > 0) & (2 * place >= config.ending)
    correct = (tonic_due & (action == config.tonic)) | (hold_due & (action == config.hold))
    return 3.0 * (correct | (rest_due & (action < FIRST)))


def penalize_repeating(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-100 for the sixth strike of a pitch in a row, or the eighth with special events in between: ().

    Also for the third note-off without a pitch in between, and for the sixth no-event (the eighth with
    note-offs in between) unless labels are "corrected".
    """
    fields = repetition(state, action, config)
    again = (action >= FIRST) & (fields["struck"] > jnp.where(fields["interrupted"], 7, 5))
    again |= (action == config.off) & (state.offs > 1)
    if config.labels == "released":
        again |= (action == config.hold) & (state.holds > jnp.where(state.offs > 0, 6, 4))
    return jnp.where(again, -100.0, 0.0)


def penalize_autocorrelation(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-3 sum |rho_k| over the lags k = 1, 2, 3 where |rho_k| > 0.15, of all tokens up to this one: ().

    rho_k = sum_i (y_{i+k} - mean)(y_i - mean) / (n var(y)); 0 while the melody is constant. The sums are
    integers and are moved to the integer nearest to the mean before any division, so that float32 has no
    cancellation however long the melody: a mean of fraction f leaves a variance of f (1 - f) or more.
    """
    del config
    action = token(action)
    after, lag, n = sums(state, action), LAGS, state.time + 1
    closing = jnp.cumsum(jnp.concatenate([action[None], last(state)[:-1]]))
    near = (2 * after["total"] + n) // (2 * n)
    total = after["total"] - n * near
    squares = after["squares"] - 2 * near * after["total"] + n * near**2
    ends = after["opening"] + closing
    pairs = jnp.maximum(n - lag, 0)
    products = after["products"] - near * (2 * after["total"] - ends) + pairs * near**2
    mean = total / n
    power = squares - total * mean
    covariance = products - mean * (2 * total - ends + 2 * jnp.minimum(n, lag) * near) + pairs * mean**2
    rho = jnp.abs(covariance / jnp.where(power > 0, power, 1.0))
    return -3.0 * jnp.where((rho > THRESHOLD) & (power > 0), rho, 0.0).sum()


def motif(state: State, action: jax.Array, config: Config) -> jax.Array:
    """+3 if the last 8 events have three different pitches, and 0.3 more for each beyond three: ()."""
    recent = motifs.push(state.recent, token(action), config.bar)
    pitches = motif_pitches(state, recent, config)
    return jnp.where(pitches >= motifs.LEAST, 3.0 + 0.3 * (pitches - motifs.LEAST), 0.0)


def repeated_motif(state: State, action: jax.Array, config: Config) -> jax.Array:
    """+4 if a motif's 8 events occurred before without overlap, 1 more for each pitch beyond three: ()."""
    recent = motifs.push(state.recent, token(action), config.bar)
    pitches = motif_pitches(state, recent, config)
    first = motifs.first_end(state.motifs, state.past, recent, state.time)
    occurred = (first > 0) & (first <= state.time + 1 - config.bar)
    return jnp.where((pitches >= motifs.LEAST) & occurred, 4.0 + (pitches - motifs.LEAST), 0.0)


def preferred_intervals(state: State, action: jax.Array, config: Config) -> jax.Array:
    """The interval from the last pitch, (): 0 before the first pitch.

    +0.1 to +0.75 for steps, thirds, fourths, fifths, sixths, more for fifths and thirds within the tonic's
    chord; -1.5 for sevenths and -5 beyond an octave. +0.25 to +1.5 for special events, more on the tonic and
    its fifth.
    """
    action = token(action)
    degree = (state.pitch - config.tonic) % 12
    at_home = (degree == 0) | (degree == 7)
    distance = jnp.abs(action - state.pitch)
    interval = jnp.asarray(INTERVALS)[jnp.minimum(distance, SIZE - 1)]
    interval = jnp.where((distance == 7) & at_home, 0.5, interval)
    interval = jnp.where((distance == 4) & ((degree == 0) | (degree == 4)), 0.75, interval)
    held = jnp.where(at_home, 1.5, 0.375)
    rest = jnp.where(at_home, 0.75, 0.25)
    special = jnp.where(action == config.hold, held, rest)
    return jnp.where(state.pitch < 0, 0.0, jnp.where(action < FIRST, special, interval))


def leap_up_back(state: State, action: jax.Array, config: Config) -> jax.Array:
    """+5 if this note resolves a leap of a fifth or more, -5 for a second leap in its direction: ()."""
    del config
    _, outcome = leap(state, token(action))
    return 5.0 * outcome


def high_low_unique(state: State, action: jax.Array, config: Config) -> jax.Array:
    """At the last note +3 if the highest token, and +3 if the lowest pitch, occurred only once: ()."""
    fields = extremes(state, action)
    once = (fields["highest_count"] == 1) * 3.0 + (fields["lowest_count"] == 1) * 3.0
    return jnp.where(state.time + 1 == config.length, once, 0.0)


RULES: dict[str, Rule] = {
    "key": key,
    "tonic": tonic,
    "penalize_repeating": penalize_repeating,
    "penalize_autocorrelation": penalize_autocorrelation,
    "motif": motif,
    "repeated_motif": repeated_motif,
    "preferred_intervals": preferred_intervals,
    "leap_up_back": leap_up_back,
    "high_low_unique": high_low_unique,
}
