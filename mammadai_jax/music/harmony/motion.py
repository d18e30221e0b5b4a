"""Rules about how voices move: in parallel, into perfect intervals, across and away from one another.

Each is `(state, action, config) -> reward`, minus the number of events that a decision completes. A *move* is
a change of a voice's pitch from one frame to the next, so that a piece has the same events on a finer grid. A
pair's interval is the upper-numbered voice's from the other, modulo an octave; both sound before and after.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mammadai_jax.music.harmony.voices import (
    SILENT,
    Config,
    Pairs,
    State,
    of_own,
    pairs,
    ranges,
    view,
)

FIFTH, OCTAVE, TWO_OCTAVES = 7, 12, 24


def _pairs(state: State, action: jax.Array, config: Config) -> Pairs:
    return pairs(view(state, action, config))


def _perfect(pair: Pairs, interval: int) -> tuple[jax.Array, jax.Array]:
    """Whether pairs have the interval (semitones) in the frame before and now, each bool (V,)."""
    interval %= OCTAVE
    before, now = pair.upper_before - pair.lower_before, pair.upper - pair.lower
    return before % OCTAVE == interval, now % OCTAVE == interval


def _direction(pair: Pairs) -> jax.Array:
    """1 where the voices of pairs move in the same direction, -1 in contrary motion, else 0: int32 (V,)."""
    moves = jnp.sign(pair.upper - pair.upper_before) * jnp.sign(pair.lower - pair.lower_before)
    return jnp.where(pair.sounding, moves, 0)


def _consecutive(interval: int, direction: int, state: State, action: jax.Array, config: Config) -> jax.Array:
    pair = _pairs(state, action, config)
    before, now = _perfect(pair, interval)
    return -(before & now & (_direction(pair) == direction)).sum()


def parallel_fifths(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for each pair that moves in the same direction from a fifth to a fifth: ()."""
    return _consecutive(FIFTH, 1, state, action, config)


def parallel_octaves(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for each pair that moves in the same direction from an octave or unison to one: ()."""
    return _consecutive(OCTAVE, 1, state, action, config)


def contrary_fifths(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for each pair that moves in contrary motion from a fifth to a fifth: ()."""
    return _consecutive(FIFTH, -1, state, action, config)


def contrary_octaves(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for each pair that moves in contrary motion from an octave or unison to one: ()."""
    return _consecutive(OCTAVE, -1, state, action, config)


def _hidden(interval: int, state: State, action: jax.Array, config: Config) -> jax.Array:
    pair = _pairs(state, action, config)
    before, now = _perfect(pair, interval)
    leaps = jnp.abs(pair.upper - pair.upper_before) > 2
    return -(pair.outer & leaps & ~before & now & (_direction(pair) == 1)).sum()


def hidden_fifths(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 where the outer voices move in the same direction, the upper by a leap, into a fifth: ()."""
    return _hidden(FIFTH, state, action, config)


def hidden_octaves(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 where the outer voices move in the same direction, the upper by a leap, into an octave: ()."""
    return _hidden(OCTAVE, state, action, config)


def crossing(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for each pair of neighbours whose upper voice goes below the lower: (). It counts once until undone.

    A unison is none.
    """
    pair = _pairs(state, action, config)
    return -(pair.complete & pair.adjacent & pair.crossed & ~pair.crossed_before).sum()


def overlap(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for each voice that moves beyond where its neighbour was in the frame before: ().

    Pairs of neighbours that cross before or after are left to `crossing`.
    """
    pair = _pairs(state, action, config)
    both_before = jnp.minimum(pair.upper_before, pair.lower_before) > SILENT
    rises = (pair.lower > pair.upper_before) & (pair.lower != pair.lower_before)
    falls = (pair.upper < pair.lower_before) & (pair.upper > SILENT) & (pair.upper != pair.upper_before)
    ordered = pair.complete & pair.adjacent & both_before & ~pair.crossed & ~pair.crossed_before
    return -(ordered & rises).sum() - (ordered & falls).sum()


def spacing(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for each pair of neighbours that goes more than an octave apart, the lowest two more than two: ().

    It counts once until the voices are near again.
    """
    pair = _pairs(state, action, config)
    limit = jnp.where(pair.lowest, TWO_OCTAVES, OCTAVE)
    now = (pair.upper - pair.lower > limit) & (pair.lower > SILENT)
    before = (pair.upper_before - pair.lower_before > limit) & (pair.lower_before > SILENT)
    return -(pair.complete & pair.adjacent & now & ~before).sum()


def voice_ranges(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for a voice that leaves its range (`Config.ranges`): (). It counts once until the voice is back."""
    seen = view(state, action, config)
    low, high = jnp.asarray(ranges(config.voices) if config.ranges is None else config.ranges).T
    outside = lambda pitch: ((pitch < low) | (pitch > high)) & (pitch > SILENT)
    return -(seen.own & outside(seen.now) & ~outside(seen.before)).sum()


def _leap(state: State, action: jax.Array, config: Config) -> jax.Array:
    """Semitones that the decided voice moves, 0 from and to silence: int32 ()."""
    seen = view(state, action, config)
    sounds = (seen.now > SILENT) & (seen.before > SILENT)
    return of_own(jnp.where(sounds, jnp.abs(seen.now - seen.before), 0), seen)


def bad_leaps(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for a voice that moves by a tritone or a seventh (6, 10 or 11 semitones): ()."""
    leap = _leap(state, action, config)
    return -jnp.where((leap == 6) | (leap == 10) | (leap == 11), 1, 0)


def wide_leaps(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for a voice that moves by more than an octave: ()."""
    return -jnp.where(_leap(state, action, config) > OCTAVE, 1, 0)
