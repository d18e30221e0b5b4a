"""Composing as a Markov decision process: one note a step.

`make("accompanied")` and `make("rl_tuner")` give `(env, params)` on gymnax 1.0's contract:

    obs, state = env.reset(key, params)
    obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)

with automatic reset and `info["final_observation"]`. The melody's length is part of the task, so a melody
that reached it has *terminated*; `truncated` is left to whoever cuts one short. Agents do not pay for the
automatic reset: they scan the plain functions `env.initial`, `env.advance` and `env.observe` underneath.

States are a few small integers: a step costs the same at note 10 and at note 10,000.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mammadai_jax import spaces
from mammadai_jax.music.notes import PIANO, RL_TUNER, Alphabet

MIDI_NOTES = 128
DECAY = 255 / 256  # a step, Lowe (2020)

Representation = Literal["snapshot", "counts", "decayed"]
Source = Literal["accompaniment", "melody", "both"]


@struct.dataclass
class Params:
    """What may change from episode to episode without a new program; leaves may be vmapped.

    Attributes:
        max_steps_in_episode: the melody's length in steps (gymnax's name).
    """

    max_steps_in_episode: int | jax.Array = 32


class Environment:
    """The template: a subclass says what a state is, this class keeps gymnax's books.

    A subclass gives `initial`, `advance`, `observe`, `observation_size` and, where it needs more, its params.
    `reward(state, action, after)` is any pure function of the state before, the action and the state after.
    """

    name: str  # that `make` knows
    alphabet: Alphabet

    def __init__(self, reward: Callable[[Any, jax.Array, Any], jax.Array] | None = None):
        self.reward = reward or (lambda state, action, after: jnp.zeros(()))

    @property
    def default_params(self) -> Any:
        """Parameters to start from."""
        return Params()

    @property
    def num_actions(self) -> int:
        """Number of actions: the alphabet's size."""
        return self.alphabet.size

    @property
    def observation_size(self) -> int:
        """Length of an observation."""
        raise NotImplementedError

    def action_space(self, params=None) -> Any:
        """All tokens of the alphabet: `spaces.Discrete`."""
        del params
        return spaces.discrete(self.num_actions)

    def observation_space(self, params=None) -> Any:
        """A row of numbers in [0, 1]: `spaces.Box`."""
        del params
        return spaces.box(0.0, 1.0, (self.observation_size,))

    def initial(self, key: chex.PRNGKey, params) -> Any:
        """The state before the first note."""
        raise NotImplementedError

    def advance(self, state, action: jax.Array, params) -> Any:
        """The state after one more note."""
        raise NotImplementedError

    def observe(self, state, params) -> jax.Array:
        """What the composer sees, float32 (observation_size,)."""
        raise NotImplementedError

    @functools.partial(jax.jit, static_argnames="self")
    def reset(self, key: chex.PRNGKey, params=None):
        """Begin a melody -> observation, state."""
        return self.reset_env(key, self.default_params if params is None else params)

    def reset_env(self, key: chex.PRNGKey, params):
        """As reset, uncompiled: gymnax's adapters may replace `reset`, so `step` calls this one."""
        state = self.initial(key, params)
        return self.observe(state, params), state

    def step_env(self, key: chex.PRNGKey, state, action, params):
        """One note without automatic reset -> observation, state, reward, terminated, info.

        AssertionError for a batch of actions: those are vmapped.
        """
        del key
        action = jnp.asarray(action, jnp.int32)
        chex.assert_rank(action, 0)
        after = self.advance(state, action, params)
        terminated = after.time >= params.max_steps_in_episode
        info = {"discount": 1.0 - terminated.astype(jnp.float32)}
        return self.observe(after, params), after, self.reward(state, action, after), terminated, info

    @functools.partial(jax.jit, static_argnames="self")
    def step(self, key: chex.PRNGKey, state, action, params=None):
        """One note -> observation, state, reward, terminated, truncated, info; resets itself at the end."""
        params = self.default_params if params is None else params
        key_step, key_reset = jax.random.split(key)
        final, after, reward, terminated, info = self.step_env(key_step, state, action, params)
        fresh, fresh_state = self.reset_env(key_reset, params)
        select = lambda new, old: jnp.where(terminated, new, old)
        truncated = jnp.zeros((), bool)
        info = {**info, "terminated": terminated, "truncated": truncated, "final_observation": final}
        state = jax.tree.map(select, fresh_state, after)
        return select(fresh, final), state, reward, terminated, truncated, info


@struct.dataclass
class MelodyState:
    """State of `rl_tuner`: int32 `time` of the next note, `token` played last (38 before the first)."""

    time: jax.Array
    token: jax.Array


class RLTuner(Environment):
    """Two bars of 16ths over 38 classes: note-off, no-event and 36 pitches from MIDI 48 (Jaques et al. 2017).

    Observation, float32 (63,): the last token one-hot (39, the last place before the first note), the place
    in the bar one-hot (16) and the bar's number modulo 8 one-hot (8).
    """

    alphabet = RL_TUNER
    name = "rl_tuner"

    @property
    def observation_size(self) -> int:
        """Last token, place in the bar, bar."""
        return self.num_actions + 1 + 16 + 8

    def initial(self, key, params) -> MelodyState:
        """Nothing played yet."""
        del key, params
        return MelodyState(time=jnp.int32(0), token=jnp.int32(self.num_actions))

    def advance(self, state, action, params) -> MelodyState:
        """Remember the note and go on."""
        del params
        return MelodyState(time=state.time + 1, token=action)

    def observe(self, state, params) -> jax.Array:
        """See the class."""
        del params
        last = jax.nn.one_hot(state.token, self.num_actions + 1, dtype=jnp.float32)
        place = jax.nn.one_hot(state.time % 16, 16, dtype=jnp.float32)
        bar = jax.nn.one_hot(state.time // 16 % 8, 8, dtype=jnp.float32)
        return jnp.concatenate([last, place, bar])


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

    Args:
        representation, source: see above.
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
    ):
        super().__init__(reward)
        if representation not in get_args(Representation):
            raise ValueError(f"representation is one of {get_args(Representation)}, not {representation!r}")
        if source not in get_args(Source):
            raise ValueError(f"source is one of {get_args(Source)}, not {source!r}")
        self.representation, self.source = representation, source
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
        """128 for one source, 256 for both."""
        return MIDI_NOTES * (2 if self.source == "both" else 1)

    def initial(self, key, params) -> AccompaniedState:
        """Begin over an accompaniment drawn at random."""
        return self.begin(jax.random.randint(key, (), 0, params.backing.shape[0]))

    def begin(self, piece: jax.Array) -> AccompaniedState:
        """Begin over accompaniment number `piece`."""
        remembers = self.source != "accompaniment" and self.representation != "snapshot"
        return AccompaniedState(
            time=jnp.int32(0),
            piece=jnp.asarray(piece, jnp.int32),
            token=jnp.int32(self.alphabet.silence),
            memory=jnp.zeros((MIDI_NOTES if remembers else 0,), jnp.int32),
        )

    def advance(self, state, action, params) -> AccompaniedState:
        """Sound the note, remember it, go on."""
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
        """See the class."""
        parts = []
        if self.source != "melody":
            parts.append(params.backing[state.piece, state.time])
        if self.source != "accompaniment":
            parts.append(self._own(state))
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
    """What an accompaniment shows at each step.

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


ENVIRONMENTS: dict[str, type[Environment]] = {"accompanied": Accompanied, "rl_tuner": RLTuner}


def make(name: str, **kwargs) -> tuple[Environment, Any]:
    """An environment by name with its default params; keywords go to its class; ValueError if unknown."""
    if name not in ENVIRONMENTS:
        raise ValueError(f"no environment is called {name!r}; there are {sorted(ENVIRONMENTS)}")
    env = ENVIRONMENTS[name](**kwargs)
    return env, env.default_params


def check(env: Any, params: Any = None, key: jax.Array | None = None, steps: int = 300) -> None:
    """Hold an environment to gymnax 1.0's contract; anybody's environment may be passed.

    Args:
        env: the environment.
        params: its params, its own by default.
        key: seeds the random actions.
        steps: how long to try; an episode must end within them, or the end would go unseen.

    Raises:
        AssertionError: naming the first promise that is broken.
    """
    params = env.default_params if params is None else params
    key = jax.random.key(0) if key is None else key
    obs, state = jax.jit(env.reset)(key, params)
    observations, actions = env.observation_space(params), env.action_space(params)
    assert (obs.shape, obs.dtype) == (observations.shape, observations.dtype), "reset leaves the space"
    step, ended = jax.jit(env.step), False
    for index, (key_action, key_step) in enumerate(jax.random.split(key, (steps, 2))):
        action = actions.sample(key_action)
        assert bool(actions.contains(action)), "a sampled action is not in its space"
        before = state
        obs, state, reward, terminated, truncated, info = step(key_step, state, action, params)
        assert bool(observations.contains(obs)), f"the observation after step {index} is not in its space"
        chex.assert_trees_all_equal_shapes_and_dtypes(before, state)
        chex.assert_shape([reward, terminated, truncated], ())
        assert terminated.dtype == truncated.dtype == jnp.bool_, "end flags are not bool"
        assert "final_observation" in info, 'info has no "final_observation"'
        chex.assert_trees_all_equal_shapes_and_dtypes(info["final_observation"], obs)
        if bool(terminated) or bool(truncated):
            ended = True
            assert int(state.time) == 0, "the state after an end is not a fresh one"
        else:
            chex.assert_trees_all_equal(info["final_observation"], obs)
    assert ended, f"no episode ended within {steps} steps: allow more, so that the end is seen"
    again = step(key_step, before, action, params)
    chex.assert_trees_all_equal(again[:4], (obs, state, reward, terminated))
