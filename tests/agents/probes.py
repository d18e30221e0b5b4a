"""Probe environments: melodies of a few notes whose values and best policy are known."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mammadai_jax import spaces
from mammadai_jax.environments import Environment, Params
from mammadai_jax.music.notes import Alphabet


@struct.dataclass
class ProbeState:
    """int32 `time` of the next note, float32 `signal`, -1 or 1 at random."""

    time: jax.Array
    signal: jax.Array


class Probe(Environment):
    """A signal or the time or both are seen, `length` notes of `actions` are played."""

    name = "probe"

    def __init__(self, reward, length=1, sees="signal", actions=2):
        super().__init__(reward)
        self.alphabet = Alphabet("probe", lowest=60, pitches=actions - 1, first=1, silence=0)
        self.length, self.sees = length, (sees,) if isinstance(sees, str) else sees

    @property
    def default_params(self):
        return Params(max_steps_in_episode=self.length)

    @property
    def observation_size(self):
        return len(self.sees)

    def initial(self, key, params):
        del params
        return ProbeState(jnp.int32(0), jax.random.rademacher(key, (), jnp.float32))

    def advance(self, state, action, params):
        del action, params
        return state.replace(time=state.time + 1)

    def observe(self, state, params):
        del params
        return jnp.stack([getattr(state, name) for name in self.sees]).astype(jnp.float32)


def constant(state, action, after):
    """Every note earns 1."""
    return jnp.float32(1.0)


def observed(state, action, after):
    """The signal is the reward of every note."""
    return state.signal


def delayed(state, action, after):
    """The third note earns 1."""
    return jnp.float32(after.time == 3)


def choice(state, action, after):
    """Note 1 earns 1, note 0 loses 1."""
    return 2.0 * action - 1.0


def matched(state, action, after):
    """The note that goes with the signal earns 1, the other loses 1."""
    return state.signal * (2.0 * action - 1.0)


def one_of(rewards, which):
    """The reward of that number, which may be traced: one program learns from all of them."""
    return lambda *step: jax.lax.switch(which, [lambda reward=reward: reward(*step) for reward in rewards])


def compiled(function):
    """A function under jit, and as an array's row under vmap, which must agree: what it gives, as NumPy's."""

    @jax.jit
    def both(*arguments):
        rows = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), arguments)
        return function(*arguments), jax.vmap(function)(*rows)

    def call(*arguments):
        alone, rows = jax.tree.map(np.asarray, both(*arguments))
        for row in (0, 1):
            close = lambda a, b, at=row: np.testing.assert_allclose(b[at], a, rtol=1e-5, atol=1e-6)
            jax.tree.map(close, alone, rows)
        return alone

    return call


@struct.dataclass
class WalkParams:
    """Of Walk; gymnax's name."""

    max_steps_in_episode: int = 3


@struct.dataclass
class WalkState:
    """int32 `time` since the start, and `place`."""

    time: jax.Array
    place: jax.Array


class Walk:
    """Episodes of variable length, on gymnax's contract, with no help of our own environments.

    Action 1 goes one place up and earns 1, action 0 ends the episode and earns `exit`. Time limits truncate.
    The place modulo 3 is seen but not the time, so that going on for ever is worth 1 / (1 - gamma) at every
    place, if and only if truncated episodes are bootstrapped.
    """

    num_actions = 2

    def __init__(self, exit=0.0):
        self.exit = exit

    @property
    def default_params(self):
        return WalkParams()

    def observation_space(self, params):
        del params
        return spaces.Box(0.0, 1.0, (3,))

    def action_space(self, params):
        del params
        return spaces.Discrete(2)

    def observe(self, state):
        return jax.nn.one_hot(state.place % 3, 3)

    def reset(self, key, params):
        del params
        state = WalkState(jnp.int32(0), jax.random.randint(key, (), 0, 3))
        return self.observe(state), state

    def step(self, key, state, action, params):
        fresh, fresh_state = self.reset(key, params)
        after = WalkState(state.time + 1, state.place + 1)
        terminated = action == 0
        # both flags may be set: an end that would have come anyway is no truncation
        truncated = after.time >= params.max_steps_in_episode
        final = self.observe(after)
        done = terminated | truncated
        select = lambda new, old: jax.tree.map(lambda x, y: jnp.where(done, x, y), new, old)
        reward = jnp.where(terminated, self.exit, 1.0)
        info = {"final_observation": final}
        return select(fresh, final), select(fresh_state, after), reward, terminated, truncated, info
