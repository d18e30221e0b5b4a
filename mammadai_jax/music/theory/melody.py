# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
# (flax adds `replace` and the constructors of its dataclasses)
"""The state of a melody that the rules need: a few integers, updated at the same cost for every note.

`repetition`, `sums`, `leap` and `extremes` compute the changes by a note; the rules use them as well.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any, Literal, get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer

from mammadai_jax.music.notes import RL_TUNER
from mammadai_jax.music.theory import motifs

Labels = Literal["released", "corrected"]


FIRST = RL_TUNER.first  # tokens below it are note-off and no event
SIZE = RL_TUNER.size
TONIC = 14  # middle C
C_MAJOR = (0, 2, 4, 5, 7, 9, 11)  # pitch classes
LEAP = 7  # semitones
LAGS = np.array([1, 2, 3])  # of the autocorrelation

static = functools.partial(struct.field, pytree_node=False)


def in_key(pitch_classes: Collection[int] = C_MAJOR) -> np.ndarray:
    """Which tokens are in a key, bool (38,), for its pitch classes (0 = C); special events always are.

    ValueError for pitch classes outside 0..11.
    """
    if not all(0 <= pitch_class < 12 for pitch_class in pitch_classes):
        raise ValueError(f"pitch classes should be 0..11, got {sorted(pitch_classes)}")
    tokens = np.arange(SIZE)
    pitches = tokens - FIRST + RL_TUNER.lowest
    return (tokens < FIRST) | np.isin(pitches % 12, list(pitch_classes))


@struct.dataclass
class Config:
    """Parameters of the rules. Fields marked *static* change the program; others may be traced and vmapped.

    Attributes:
        length: steps of the melody (static).
        bar: steps of a motif (static); 8 in the released program, which calls it a bar. 4 or more.
        labels: "released" reads token 0 as note-off and 1 as no event, as the paper and its program do.
            "corrected" reads 0 as no event and 1 as note-off, as the data behind them were written, and lets
            a note be held for any length (static).
        ending: steps of the final bar, in which the tonic is struck, held for half of the bar, and released.
        tonic: token of the tonic; only this octave counts at the start and the end.
        key: bool (38,), the tokens in the key, see in_key.

    """

    length: int = static(default=32)
    bar: int = static(default=8)
    labels: Labels = static(default="released")
    ending: int | jax.Array = 4
    tonic: int | jax.Array = TONIC
    key: Any = struct.field(default_factory=in_key)

    def __post_init__(self):
        if self.labels not in get_args(Labels):
            raise ValueError(f"labels should be 'released' or 'corrected', got {self.labels!r}")
        if not 1 <= self.length <= motifs.LONGEST or self.bar < 4:
            raise ValueError(
                f"length should be 1 to {motifs.LONGEST} and bar 4 or more, got {self.length} and {self.bar}"
            )

    @property
    def off(self) -> int:
        """Token of note-off."""
        return 0 if self.labels == "released" else 1

    @property
    def hold(self) -> int:
        """Token of no event."""
        return 1 - self.off


@struct.dataclass
class State:
    """The melody so far, as far as the rules need it; int32 () unless stated otherwise.

    Attributes:
        time: steps so far.
        pitch: token of the last pitch, -1 before the first.
        struck: how often `pitch` was struck in a row, special events between not counted.
        interrupted: bool, whether there was a special event since the pitch before `pitch`.
        offs, holds: special events since `pitch`.
        total, squares: sums of the tokens and of their squares.
        products: (3,), sums of products of tokens 1, 2 and 3 steps apart.
        opening: (3,), sums of the first 1, 2 and 3 tokens.
        direction: of an unresolved leap, -1 or 1; 0 without one.
        origin: token of the pitch before that leap.
        steps: since the last leap.
        highest, highest_count: highest token and how often it occurred.
        lowest, lowest_count: lowest pitch token (38 before the first) and how often it occurred.
        recent: uint32 (words,), the last `bar` tokens packed, see motifs.py.
        past: uint32 (steps, words), the value of `recent` after each step that ended a new motif.
        motifs: uint32 (buckets, 16), the table of the motifs so far.

    """

    time: jax.Array
    pitch: jax.Array
    struck: jax.Array
    interrupted: jax.Array
    offs: jax.Array
    holds: jax.Array
    total: jax.Array
    squares: jax.Array
    products: jax.Array
    opening: jax.Array
    direction: jax.Array
    origin: jax.Array
    steps: jax.Array
    highest: jax.Array
    highest_count: jax.Array
    lowest: jax.Array
    lowest_count: jax.Array
    recent: jax.Array
    past: jax.Array
    motifs: jax.Array


def initial(config: Config) -> State:
    """The state before the first note."""
    zero = jnp.int32(0)
    return State(
        **dict.fromkeys(("time", "struck", "offs", "holds", "total", "squares", "direction"), zero),
        **dict.fromkeys(("origin", "steps", "highest_count", "lowest_count"), zero),
        **dict.fromkeys(("products", "opening"), jnp.zeros(len(LAGS), jnp.int32)),
        pitch=jnp.int32(-1),
        interrupted=jnp.zeros((), bool),
        highest=jnp.int32(-1),
        lowest=jnp.int32(SIZE),
        recent=jnp.zeros(motifs.words(config.bar), jnp.uint32),
        past=motifs.past(config.length, config.bar),
        motifs=motifs.table(config.length),
    )


def advance(state: State, action: jax.Array, config: Config) -> State:
    """The state after one more note, `action` a token (). Motifs beyond config.length are not stored."""
    action = token(action)
    recent = motifs.push(state.recent, action, config.bar)
    new = motif_pitches(state, recent, config) >= motifs.LEAST
    new &= (motifs.first_end(state.motifs, state.past, recent, state.time) == 0) & (
        state.time < config.length
    )
    leaps, _ = leap(state, action)
    return state.replace(
        time=state.time + 1,
        recent=recent,
        past=state.past.at[jnp.where(new, state.time, len(state.past))].set(recent, mode="drop"),
        motifs=motifs.insert(state.motifs, recent, state.time + 1, new),
        pitch=jnp.where(action >= FIRST, action, state.pitch),
        **repetition(state, action, config),
        **sums(state, action),
        **leaps,
        **extremes(state, action),
    )


def token(action: Any) -> jax.Array:
    """One action, int32 (); AssertionError for a batch, which needs vmap, ValueError outside the alphabet."""
    action = jnp.asarray(action, jnp.int32)
    chex.assert_rank(action, 0)
    if not isinstance(action, Tracer) and not 0 <= action < SIZE:
        raise ValueError(f"tokens of the alphabet 'rl_tuner' should be 0..{SIZE - 1}, got {action}")
    return action


def check_size(size: int) -> None:
    """ValueError for a network whose tokens the rules do not know and the motifs cannot hold."""
    if size > SIZE:
        raise ValueError(
            f"the network has {size} tokens, and the rules know the {SIZE} of the alphabet 'rl_tuner': give "
            "a network of that alphabet"
        )


def last(state: State) -> jax.Array:
    """The last three tokens, newest first, int32 (3,); 0 before the first token."""
    return jnp.stack([motifs.event(state.recent, age) for age in range(len(LAGS))])


def motif_pitches(state: State, recent: jax.Array, config: Config) -> jax.Array:
    """Different pitches among the last `bar` events and the next one, int32 (); 0 before there are `bar`."""
    return jnp.where(state.time + 1 >= config.bar, motifs.pitches(recent, config.bar), 0)


def repetition(state: State, action: jax.Array, config: Config) -> dict[str, jax.Array]:
    """The fields about repeated pitches and special events after this note, each ()."""
    pitched, same = action >= FIRST, action == state.pitch
    interrupted = state.interrupted & (same | ~pitched) | (pitched & (state.offs + state.holds > 0))
    return {
        "struck": jnp.where(pitched & ~same, 0, state.struck) + pitched,
        "interrupted": interrupted,
        "offs": jnp.where(pitched, 0, state.offs + (action == config.off)),
        "holds": jnp.where(pitched, 0, state.holds + (action == config.hold)),
    }


def sums(state: State, action: jax.Array) -> dict[str, jax.Array]:
    """The sums of tokens and of their products after this note, () and (3,)."""
    return {
        "total": state.total + action,
        "squares": state.squares + action**2,
        "products": state.products + action * last(state),
        "opening": state.opening + jnp.where(state.time < LAGS, action, 0),
    }


def leap(state: State, action: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """The fields about leaps after this note, and () 1 if it resolves a leap, -1 if it doubles one, else 0.

    A leap is resolved by a pitch at or beyond the one before it, or by a leap back after more than six steps;
    an earlier leap back cancels it.
    """
    pitched = action >= FIRST
    interval = jnp.where(pitched & (state.pitch >= 0), action - state.pitch, 0)
    leaps, towards = jnp.abs(interval) >= LEAP, jnp.sign(interval)
    pending = state.direction != 0
    first, doubled = leaps & ~pending, leaps & (towards == state.direction)
    back = leaps & (towards == -state.direction)
    beyond = state.direction * (action - state.origin) <= 0
    reached = pitched & ~leaps & pending & beyond
    fields = {
        "direction": jnp.where(first, towards, jnp.where(back | reached, 0, state.direction)),
        "origin": jnp.where(first, state.pitch, state.origin),
        "steps": jnp.where(leaps | (state.time == 0), 0, state.steps + 1),
    }
    resolved = reached | (back & (state.steps > 6))
    return fields, resolved.astype(jnp.int32) - doubled.astype(jnp.int32)


def extremes(state: State, action: jax.Array) -> dict[str, jax.Array]:
    """The highest token and lowest pitch after this note, and how often they occurred, each ()."""
    lowest = jnp.where(action >= FIRST, jnp.minimum(action, state.lowest), state.lowest)
    highest = jnp.maximum(action, state.highest)
    return {
        "highest": highest,
        "highest_count": jnp.where(highest > state.highest, 0, state.highest_count) + (action == highest),
        "lowest": lowest,
        "lowest_count": jnp.where(lowest < state.lowest, 0, state.lowest_count) + (action == lowest),
    }
