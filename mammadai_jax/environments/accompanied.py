"""A melody over an accompaniment (Lowe 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mammadai_jax.environments.base import Environment, Params
from mammadai_jax.music.notes import PIANO

MIDI_NOTES = 128
DECAY = 255 / 256  # a step, Lowe (2020)
BAR, PHRASE = 16, 4  # steps of a bar of 4/4, and bars of a phrase

Representation = Literal["snapshot", "counts", "decayed"]
Source = Literal["accompaniment", "melody", "both"]


@struct.dataclass
class AccompaniedParams(Params):
    """Params of `accompanied`.

    Attributes:
        max_steps_in_episode: 256 sixteenths, 16 bars of 4/4.
        backing: float32 (pieces, max_steps_in_episode + 1, 128), what each accompaniment shows at each step
            (the final observation shows the row after the last; where there are fewer rows, the last stays).

    """

    max_steps_in_episode: int | jax.Array = 256
    backing: Any = None


@struct.dataclass
class AccompaniedState:
    """State of `accompanied`.

    Attributes:
        time: int32, step of the next note.
        piece: int32, which accompaniment plays.
        token: int32, the last action (silence before the first).
        memory: int32 (128,) or (0,): for counts how often each pitch sounded; for decayed counts the step
            after it sounded last, 0 if never. Snapshots need none.

    """

    time: jax.Array
    piece: jax.Array
    token: jax.Array
    memory: jax.Array


class Accompanied(Environment):
    """A melody of 256 sixteenths over a rhythmic accompaniment, 88 piano keys and silence (Lowe 2020).

    The observation describes notes, one number in [0, 1] for each of MIDI's 128, in one of three ways:

    * "snapshot": which notes sound in the current 16th;
    * "counts": how often each has sounded so far, divided by the count of the note heard most often (for the
      accompaniment within the whole piece, as in the thesis; for the melody so far);
    * "decayed": 1 when a note sounds, decaying by 255/256 a step after.

    `source` says whose notes: the "accompaniment" as in the thesis (then actions do not change what is seen:
    a contextual bandit over 256 places), the agent's own "melody" so far, or "both", one after the other.

    Notes alone do not say where in the bar the next one begins. With `metre` the place in the bar (16 steps)
    and the bar in a phrase of four are observed too, each one-hot, after the notes; not so in the thesis.

    Args:
        representation, source: see above.
        metre: whether the place in the bar is observed.
        accompaniments: bool (pieces, T, 128), the notes that sound; the five embedded ones by default.
        reward: see Environment.

    """

    alphabet = PIANO
    name = "accompanied"

    def __init__(
        self,
        representation: Representation = "snapshot",
        source: Source = "accompaniment",
        accompaniments: np.ndarray | None = None,
        reward: Callable[[Any, jax.Array, Any], jax.Array] | None = None,
        *,
        metre: bool = False,
    ):
        super().__init__(reward)
        if representation not in get_args(Representation):
            raise ValueError(f"representation is one of {get_args(Representation)}, not {representation!r}")
        if source not in get_args(Source):
            raise ValueError(f"source is one of {get_args(Source)}, not {source!r}")
        self.representation, self.source, self.metre = representation, source, metre
        frames = default_accompaniments() if accompaniments is None else np.asarray(accompaniments, bool)
        if frames.ndim != 3 or frames.shape[2] != MIDI_NOTES or 0 in frames.shape:
            raise ValueError(f"accompaniments are bool (pieces, steps, 128), got {frames.shape}")
        # One more row, seen by the final observation only.
        self._backing = np.pad(represent(frames, representation), ((0, 0), (0, 1), (0, 0)), "edge")

    @property
    def default_params(self) -> AccompaniedParams:
        """The accompaniments the environment was made with, whole."""
        return AccompaniedParams(
            max_steps_in_episode=self._backing.shape[1] - 1, backing=jnp.asarray(self._backing)
        )

    @property
    def observation_size(self) -> int:
        """128 for one source, 256 for both; 20 more with the metre."""
        return MIDI_NOTES * (2 if self.source == "both" else 1) + (BAR + PHRASE if self.metre else 0)

    def initial(self, key, params) -> AccompaniedState:
        """The state before the first note, over an accompaniment drawn at random."""
        return self.begin(jax.random.randint(key, (), 0, params.backing.shape[0]))

    def begin(self, piece: jax.Array) -> AccompaniedState:
        """The state before the first note over accompaniment number `piece`, int ()."""
        chex.assert_rank(piece, 0)
        remembers = self.source != "accompaniment" and self.representation != "snapshot"
        return AccompaniedState(
            time=jnp.int32(0),
            piece=jnp.asarray(piece, jnp.int32),
            token=jnp.int32(self.alphabet.silence),
            memory=jnp.zeros((MIDI_NOTES if remembers else 0,), jnp.int32),
        )

    def advance(self, state, action, params) -> AccompaniedState:
        """The state after one more note."""
        del params
        memory = state.memory
        if memory.shape[0]:
            sounds = self._sounds(action)
            if self.representation == "counts":
                memory = memory + sounds
            else:
                memory = jnp.where(sounds, state.time + 1, memory)
        return state.replace(time=state.time + 1, token=action, memory=memory)

    def observe(self, state, params) -> jax.Array:
        """The observation of the class's docstring, float32 (observation_size,)."""
        parts = []
        if self.source != "melody":
            parts.append(params.backing[state.piece, state.time])
        if self.source != "accompaniment":
            parts.append(self._own(state))
        if self.metre:
            parts.append(jax.nn.one_hot(state.time % BAR, BAR))
            parts.append(jax.nn.one_hot(state.time // BAR % PHRASE, PHRASE))
        return jnp.concatenate(parts)

    def _sounds(self, action) -> jax.Array:
        """Which of MIDI's notes an action sounds, bool (128,)."""
        pitch = action - self.alphabet.first + self.alphabet.lowest
        return (jnp.arange(MIDI_NOTES) == pitch) & (action != self.alphabet.silence)

    def _own(self, state) -> jax.Array:
        """The agent's own melody so far, float32 (128,)."""
        if self.representation == "snapshot":
            return self._sounds(state.token).astype(jnp.float32)
        if self.representation == "counts":
            return state.memory.astype(jnp.float32) / jnp.maximum(state.memory.max(), 1).astype(jnp.float32)
        age = (state.time - state.memory).astype(jnp.float32)
        return jnp.where(state.memory > 0, jnp.exp(age * np.log(DECAY).astype(np.float32)), 0.0)


def represent(frames: np.ndarray, representation: Representation) -> np.ndarray:
    """The observations of accompaniments at each step.

    Args:
        frames: bool (pieces, T, 128), the notes that sound.
        representation: see Accompanied; equations in Lowe (2020), chapter 2.

    Returns:
        float32 (pieces, T, 128) in [0, 1].

    """
    frames = np.asarray(frames, np.float32)
    if representation == "snapshot":
        return frames
    if representation == "counts":
        counts = frames.cumsum(axis=1)
        return counts / np.maximum(counts[:, -1:].max(axis=2, keepdims=True), 1.0)
    decayed = np.zeros_like(frames)
    value = np.zeros(frames[:, 0].shape, np.float32)
    for t in range(frames.shape[1]):
        value = np.where(frames[:, t] > 0, 1.0, value * DECAY).astype(np.float32)
        decayed[:, t] = value
    return decayed


def frames_from_events(events: np.ndarray, length: int) -> np.ndarray:
    """Which of MIDI's notes sound, bool (length, 128), events (T,) repeated to fill `length` steps."""
    tokens = PIANO.encode(np.resize(np.asarray(events), length))
    pitches = tokens - PIANO.first + PIANO.lowest
    return (np.arange(MIDI_NOTES) == pitches[:, None]) & (tokens != PIANO.silence)[:, None]


def default_accompaniments(length: int = 256) -> np.ndarray:
    """The five embedded accompaniments in C, bool (5, length, 128)."""
    from mammadai_jax.music.tunes import ACCOMPANIMENTS

    return np.stack([frames_from_events(a.events, length) for a in ACCOMPANIMENTS])
