# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
# (flax adds `replace` and the constructors of its dataclasses)
"""The state of a piece of several voices that the rules need, updated at the same cost for every decision.

A frame is a step of the grid with a token for each of V voices; voice 0 is the highest. The voices of a frame
are decided one after another. `view` and `pairs` give the frame as a decision leaves it; rules begin there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer

from mammadai_jax.fields import static, traced
from mammadai_jax.music.notes import VOICES, VOICES_HOLD, Alphabet
from mammadai_jax.music.piece import decision_order

SIZE = VOICES_HOLD.size  # VOICES has the same tokens without hold, so that rules need not tell them apart
MOST_VOICES = 8
SILENT = -1  # in place of a pitch
ENTRY = 99  # in place of an interval, for a voice that sounds after silence
SATB = np.array([(60, 81), (55, 74), (48, 69), (36, 64)], np.int32)  # lowest and highest MIDI pitch


@struct.dataclass
class Config:
    """Parameters of the rules of harmony.

    Attributes:
        voices: V; voice 0 is the highest.
        frames: of the piece.
        steps_per_bar: frames of a bar; 4 on a grid of quarters, 16 on one of 16ths.
        alphabet: of the tokens, VOICES_HOLD or, without holds, VOICES.
        order: voices in the order in which they are decided; () for decision_order(voices).
        phrase_bars: bars of a phrase, whose last frame the rule `cadence` asks for a cadence.
        tonic: pitch class of the tonic, 0..11 (0 = C).
        minor: whether the mode is minor.
        ranges: lowest and highest MIDI pitch of each voice, int32 (V, 2); None for `ranges(voices)`.

    """

    voices: int = static(4, low=1, high=MOST_VOICES)
    frames: int = static(64, low=1)
    steps_per_bar: int = static(4, low=1)
    alphabet: Alphabet = static(VOICES_HOLD)
    order: tuple[int, ...] = static(())
    phrase_bars: int | jax.Array = traced(2, low=1)
    tonic: int | jax.Array = traced(0, low=0, high=11)
    minor: bool | jax.Array = traced(False)
    ranges: Any = traced(None)

    def __post_init__(self):
        if not 1 <= self.voices <= MOST_VOICES:
            raise ValueError(f"a piece has 1 to {MOST_VOICES} voices, got {self.voices}")
        if self.frames < 1 or self.steps_per_bar < 1:
            raise ValueError(
                f"frames and steps_per_bar should be 1 or more, got {self.frames} and {self.steps_per_bar}"
            )
        if self.alphabet not in (VOICES, VOICES_HOLD):
            raise ValueError(f"the alphabet is 'voices' or 'voices_hold', not {self.alphabet.name!r}")
        if self.order and sorted(self.order) != list(range(self.voices)):
            raise ValueError(f"order should name each voice 0..{self.voices - 1} once, got {self.order}")

    @property
    def decision_order(self) -> tuple[int, ...]:
        """The voices in the order in which they are decided."""
        return self.order or decision_order(self.voices)

    @property
    def length(self) -> int:
        """Decisions of the piece."""
        return self.frames * self.voices

    @property
    def bar(self) -> int:
        """Decisions of a bar."""
        return self.steps_per_bar * self.voices


def ranges(voices: int) -> np.ndarray:
    """Lowest and highest MIDI pitch of each voice, int32 (V, 2): those of soprano, alto, tenor and bass.

    Of two voices they are soprano and bass, of three soprano, alto and bass; of more than four the upper ones
    are doubled.
    """
    return SATB[[3 * voice // max(voices - 1, 1) for voice in range(voices)]]


@struct.dataclass
class State:
    """The piece so far, as far as the rules need it; int32 (V,) unless stated otherwise.

    Attributes:
        time: decisions so far, int32 ().
        pitch: the MIDI pitch that sounds in each voice after its latest decision, -1 for silence.
        before: that after its decision in the frame before.
        held: bool, whether the latest token of each voice was a hold.
        age: in the last complete frame, the frames since the voice's pitch changed.
        interval: semitones of that change; 0 into silence, 99 (ENTRY) out of it.
        frames: of the piece, int32 (); like the next two, of the config until an environment says otherwise.
        tonic: pitch class of the tonic, int32 ().
        minor: whether the mode is minor, bool ().

    """

    time: jax.Array
    pitch: jax.Array
    before: jax.Array
    held: jax.Array
    age: jax.Array
    interval: jax.Array
    frames: jax.Array
    tonic: jax.Array
    minor: jax.Array


class View(NamedTuple):
    """A frame as a decision leaves it.

    Attributes:
        frame: its number, int32 ().
        own: bool (V,), which voice is decided.
        decided: bool (V,), which voices of the frame are decided, this one included.
        now: pitches, int32 (V,); those of the frame before where a voice is not decided yet.
        before: pitches in the frame before, int32 (V,).
        last: bool (), whether the frame is complete.

    """

    frame: jax.Array
    own: jax.Array
    decided: jax.Array
    now: jax.Array
    before: jax.Array
    last: jax.Array


class Pairs(NamedTuple):
    """The decided voice with each other voice, the higher-numbered one below; (V,) by the other voice.

    Attributes:
        complete: bool, whether the other voice of the frame is decided, so that this decision completes them.
        adjacent: bool, whether no voice lies between them.
        outer: bool, whether they are the outermost two.
        lowest: bool, whether they are the lowest two.
        upper, lower: pitches.
        upper_before, lower_before: pitches in the frame before.

    """

    complete: jax.Array
    adjacent: jax.Array
    outer: jax.Array
    lowest: jax.Array
    upper: jax.Array
    lower: jax.Array
    upper_before: jax.Array
    lower_before: jax.Array

    @property
    def sounding(self) -> jax.Array:
        """Whether both sound now and in the frame before, bool (V,), of complete pairs."""
        silent = jnp.minimum(jnp.minimum(self.upper, self.lower), self.lower_before)
        return self.complete & (jnp.minimum(silent, self.upper_before) > SILENT)

    @property
    def crossed(self) -> jax.Array:
        """Whether both sound and the upper is below the lower, bool (V,)."""
        return (self.upper < self.lower) & (self.upper > SILENT)

    @property
    def crossed_before(self) -> jax.Array:
        """`crossed` of the frame before, bool (V,)."""
        return (self.upper_before < self.lower_before) & (self.upper_before > SILENT)


def initial(config: Config) -> State:
    """The state before the first decision."""
    silent, none = jnp.full(config.voices, SILENT, jnp.int32), jnp.zeros(config.voices, jnp.int32)
    return State(
        time=jnp.int32(0),
        pitch=silent,
        before=silent,
        held=jnp.zeros(config.voices, bool),
        age=none,
        interval=none,
        frames=jnp.int32(config.frames),
        tonic=jnp.asarray(config.tonic, jnp.int32),
        minor=jnp.asarray(config.minor, bool),
    )


def advance(state: State, action: jax.Array, config: Config) -> State:
    """The state after one more decision, `action` a token ()."""
    action = token(action)
    seen = view(state, action, config)
    age, interval = changes(state, seen)
    return state.replace(
        time=state.time + 1,
        pitch=seen.now,
        before=jnp.where(seen.own, state.pitch, state.before),
        held=jnp.where(seen.own, action == VOICES_HOLD.hold, state.held),
        age=jnp.where(seen.last, age, state.age),
        interval=jnp.where(seen.last, interval, state.interval),
    )


def token(action: Any) -> jax.Array:
    """One action, int32 (); AssertionError for a batch, which needs vmap, ValueError outside the alphabet."""
    action = jnp.asarray(action, jnp.int32)
    chex.assert_rank(action, 0)
    if not isinstance(action, Tracer) and not 0 <= action < SIZE:
        raise ValueError(f"tokens of the alphabet 'voices_hold' should be 0..{SIZE - 1}, got {action}")
    return action


def places(state: State, config: Config) -> tuple[jax.Array, jax.Array]:
    """Which voice is decided next, and which of its frame are decided already, each bool (V,)."""
    position, count = jnp.asarray(np.argsort(config.decision_order)), state.time % config.voices
    return position == count, position < count


def view(state: State, action: jax.Array, config: Config) -> View:
    """The frame after a decision, `action` a token ()."""
    action = token(action)
    own, decided = places(state, config)
    struck = jnp.where(action == VOICES_HOLD.silence, SILENT, action - VOICES_HOLD.first + VOICES_HOLD.lowest)
    return View(
        frame=state.time // config.voices,
        own=own,
        decided=own | decided,
        now=jnp.where(own & (action != VOICES_HOLD.hold), struck, state.pitch),
        before=jnp.where(decided, state.before, state.pitch),
        last=state.time % config.voices == config.voices - 1,
    )


def changes(state: State, seen: View) -> tuple[jax.Array, jax.Array]:
    """`age` and `interval` of each voice, int32 (V,), once the frame is complete."""
    moved = seen.now != seen.before
    interval = jnp.where(seen.now > SILENT, seen.now - seen.before, 0)
    interval = jnp.where(seen.before > SILENT, interval, ENTRY)
    return jnp.where(moved, 0, state.age + 1), jnp.where(moved, interval, state.interval)


def of_own(values: jax.Array, seen: View) -> jax.Array:
    """The value () that a row of values (V,) has for the decided voice."""
    chex.assert_rank(values, 1)
    return jnp.where(seen.own, values, 0).sum()


def pairs(seen: View) -> Pairs:
    """The pairs of the decided voice, see Pairs: (V,)."""
    count = seen.own.shape[0]
    number = jnp.arange(count)
    voice = of_own(number, seen)
    low, high = jnp.maximum(voice, number), jnp.minimum(voice, number)
    above = number < voice  # the other voice is the upper one
    now, before = of_own(seen.now, seen), of_own(seen.before, seen)
    return Pairs(
        complete=seen.decided & ~seen.own,
        adjacent=low - high == 1,
        outer=low - high == count - 1,
        lowest=high == count - 2,
        upper=jnp.where(above, seen.now, now),
        lower=jnp.where(above, now, seen.now),
        upper_before=jnp.where(above, seen.before, before),
        lower_before=jnp.where(above, before, seen.before),
    )


def is_step(interval: jax.Array) -> jax.Array:
    """Whether intervals (...,) in semitones are steps, seconds up or down: bool (...,)."""
    return (interval != 0) & (jnp.abs(interval) <= 2)
