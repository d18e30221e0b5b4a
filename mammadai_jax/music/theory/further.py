"""Rules of meter, phrase and cadence, which join the nine of RL Tuner.

The nine know no bars: obeyed alone, they fill a melody with sixteenths. These are of the same kind,
`(state, action, config) -> reward`, float32 (), for melodies in 4/4 on the grid of sixteenths.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mammadai_jax.music.theory.melody import FIRST, Config, State, token

QUARTER, HALF, PHRASE = 4, 8, 64  # steps; a phrase has four bars


def weak_sixteenth(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for a note that begins between two eighths: ().

    One note in 17 of real tunes does. The place is on the lowest level of the meter (Lerdahl & Jackendoff
    1983).
    """
    del config
    return jnp.where((token(action) >= FIRST) & (state.time % 2 == 1), -1.0, 0.0)


def off_beat(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for a note that begins off the beat, after a beat on which none began: ().

    A syncopation: an accent of length where the meter has none (Lerdahl & Jackendoff 1983).
    """
    del config
    since = state.offs + state.holds + 1  # steps from the last note, to this one
    place = state.time % QUARTER
    skipped = (state.pitch < 0) | (since > place)
    return jnp.where((token(action) >= FIRST) & (place > 0) & skipped, -1.0, 0.0)


def phrase_end(state: State, action: jax.Array, config: Config) -> jax.Array:
    """+1 at the end of four bars if no note has begun in their last beat: ().

    Long gaps between notes are where listeners hear phrases end (Temperley 2001).
    """
    del config
    rests = (token(action) < FIRST) & (state.offs + state.holds + 1 >= QUARTER)
    return jnp.where(((state.time + 1) % PHRASE == 0) & rests & (state.pitch >= 0), 1.0, 0.0)


def cadence(state: State, action: jax.Array, config: Config) -> jax.Array:
    """+1 at the end if the last note is the tonic in any octave, on a strong beat, and a quarter long: ().

    Strong are the first and the third beat of a bar. A theme closes so (Caplin 1998).
    """
    since = state.offs + state.holds + 1
    closes = (token(action) < FIRST) & (state.pitch >= 0) & ((state.pitch - config.tonic) % 12 == 0)
    closes &= ((state.time - since) % HALF == 0) & (since >= QUARTER - 1)
    return jnp.where((state.time + 1 == config.length) & closes, 1.0, 0.0)


FURTHER = {
    "weak_sixteenth": weak_sixteenth,
    "off_beat": off_beat,
    "phrase_end": phrase_end,
    "cadence": cadence,
}
