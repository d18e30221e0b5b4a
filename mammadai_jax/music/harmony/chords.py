"""Rules about what sounds together: dissonances, doublings, sevenths, chords that stand, cadences.

Each is `(state, action, config) -> reward`. A pair's event belongs to the decision of the later of the two
voices, a chord's to that of the frame's last voice.
"""

from __future__ import annotations

import functools
import operator

import chex
import jax
import jax.numpy as jnp

from mammadai_jax.music.chords import IS_CHORD
from mammadai_jax.music.harmony.voices import (
    ENTRY,
    SILENT,
    Config,
    Pairs,
    State,
    View,
    changes,
    is_step,
    of_own,
    pairs,
    view,
)

SEMITONE, TONE, TRITONE, MINOR_SEVENTH, MAJOR_SEVENTH = 1, 2, 6, 10, 11
DISSONANT = sum(1 << interval for interval in (SEMITONE, TONE, TRITONE, MINOR_SEVENTH, MAJOR_SEVENTH))
MAJOR_TRIAD, MINOR_TRIAD = 1 << 0 | 1 << 4 | 1 << 7, 1 << 0 | 1 << 3 | 1 << 7


def _left_dissonances(pair: Pairs) -> jax.Array:
    """Which pairs that sounded a dissonance leave it now and go on sounding, bool (V,)."""
    interval = jnp.abs(pair.upper_before - pair.lower_before) % 12
    moved = (pair.upper != pair.upper_before) | (pair.lower != pair.lower_before)
    return pair.sounding & moved & ((DISSONANT >> interval) & 1 == 1)


def unresolved_dissonance(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for each pair that leaves a dissonance where neither voice moves by step: ().

    Dissonant are seconds, sevenths and the tritone: 1, 2, 6, 10 and 11 semitones modulo an octave.
    """
    pair = pairs(view(state, action, config))
    steps = is_step(pair.upper - pair.upper_before) | is_step(pair.lower - pair.lower_before)
    return -(_left_dissonances(pair) & ~steps).sum()


def unjustified_dissonance(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for each pair that leaves a dissonance that neither voice justified: ().

    A voice does if it came to it by step or was held into it, and leaves it by step, as in passing notes,
    neighbour notes and suspensions. Dissonances that begin out of silence are not judged.
    """
    seen = view(state, action, config)
    age, interval = of_own(state.age, seen), of_own(state.interval, seen)
    began = jnp.minimum(age, state.age)
    entered, own_entered = state.age == began, age == began
    leaves, own_leaves = is_step(seen.now - seen.before), is_step(of_own(seen.now - seen.before, seen))
    justified = leaves & (~entered | is_step(state.interval))
    justified |= own_leaves & (~own_entered | is_step(interval))
    silence = (entered & (state.interval == ENTRY)) | (own_entered & (interval == ENTRY))
    return -(_left_dissonances(pairs(seen)) & ~justified & ~silence).sum()


def doubled_leading_tone(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 where a second voice of the frame takes the leading tone, below the tonic by a semitone: ().

    It counts once until the leading tone is no longer doubled.
    """
    seen = view(state, action, config)
    leads = lambda pitch: ((pitch + 1 - state.tonic) % 12 == 0) & (pitch > SILENT)
    now, before = leads(seen.now) & seen.decided, leads(seen.before)
    second = (seen.own & now).any() & (now.sum() == 2) & (before.sum() < 2)
    return -jnp.where(second, 1, 0)


def _classes(pitch: jax.Array) -> jax.Array:
    """The set of pitch classes of pitches (V,) as an integer whose bit c says whether class c sounds: ()."""
    chex.assert_rank(pitch, 1)
    bits = jnp.where(pitch > SILENT, 1 << (pitch % 12), 0)
    return functools.reduce(operator.or_, [bits[voice] for voice in range(pitch.shape[0])])


def _rotated(classes: jax.Array, root: jax.Array) -> jax.Array:
    """A set of pitch classes () as intervals above a root (...,), in the same form: (...,)."""
    root = root % 12
    return ((classes >> root) | (classes << (12 - root))) & 0xFFF


def unresolved_sevenths(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for a voice that leaves the seventh of a chord other than by a step down: ().

    A note is the seventh of a chord where the note a minor or major seventh below it, and that one's third,
    sound too, in any octave. It may be held while the others move on.
    """
    seen = view(state, action, config)
    below = _rotated(_classes(seen.before), of_own(seen.before, seen))  # intervals above the note
    sounds = lambda interval: (below >> (interval % 12)) & 1 == 1
    seventh = sounds(-10) & (sounds(-10 + 3) | sounds(-10 + 4))
    seventh |= sounds(-11) & (sounds(-11 + 3) | sounds(-11 + 4))
    now, before = of_own(seen.now, seen), of_own(seen.before, seen)
    held_or_down = (now <= before) & (now >= before - 2)
    return -jnp.where(seventh & (before > SILENT) & (now > SILENT) & ~held_or_down, 1, 0)


def repeated_chords(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 for each half bar that the same pitches stand or return beyond their first half: ().

    In bars of an odd number of frames it counts whole bars. Notes struck again are the same chord.
    """
    seen = view(state, action, config)
    age = changes(state, seen)[0].min()
    return -jnp.where(seen.last & (age > 0) & (2 * age % config.steps_per_bar == 0), 1, 0)


def no_chord(state: State, action: jax.Array, config: Config) -> jax.Array:
    """-1 where a frame is neither a triad nor a seventh chord (`music.chords.name`): ().

    It is not among RULES: passing notes are no fault. It is for grids whose frames are beats.
    """
    seen = view(state, action, config)
    return -jnp.where(seen.last & ~jnp.asarray(IS_CHORD)[_classes(seen.now)], 1, 0)


def _intervals_above_bass(seen: View) -> jax.Array:
    """Pitch classes above the lowest voice's, as a set: (). Of no meaning where that voice is silent."""
    return _rotated(_classes(seen.now), seen.now[-1])


def cadence(state: State, action: jax.Array, config: Config) -> jax.Array:
    """+1 where a phrase or the piece ends with a triad in root position that is reached by a cadence: ().

    The triad is major or minor and may lack its fifth; the lowest voice has come to its root by a fourth or
    fifth (authentic, plagal and half cadences). A phrase has `Config.phrase_bars` bars.
    """
    seen = view(state, action, config)
    phrase = config.phrase_bars * config.steps_per_bar
    ends = seen.last & (((seen.frame + 1) % phrase == 0) | (seen.frame + 1 == state.frames))
    sound, came = _intervals_above_bass(seen), changes(state, seen)[1][-1]
    fifth = ((came % 12 == 5) | (came % 12 == 7)) & (came != ENTRY)
    third = (sound & (1 << 3 | 1 << 4)) != 0
    triad = third & (((sound & ~MAJOR_TRIAD) == 0) | ((sound & ~MINOR_TRIAD) == 0))
    return jnp.where(ends & triad & fifth & (seen.now[-1] > SILENT), 1, 0)


def final_tonic(state: State, action: jax.Array, config: Config) -> jax.Array:
    """+1 where the piece ends with the tonic's triad in root position: ().

    All voices that sound have notes of it, the lowest its root. In minor it may be the major triad too.
    """
    seen = view(state, action, config)
    sound, bass = _intervals_above_bass(seen), seen.now[-1]
    triad = ((sound & ~MAJOR_TRIAD) == 0) | (state.minor & ((sound & ~MINOR_TRIAD) == 0))
    root = (bass > SILENT) & ((bass - state.tonic) % 12 == 0)
    return jnp.where(seen.last & (seen.frame + 1 == state.frames) & triad & root, 1, 0)
