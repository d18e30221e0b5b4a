"""Probe environments: melodies of a few notes whose values and best policy are known."""

import jax
import jax.numpy as jnp
from flax import struct

from mammadai_jax.environments import Environment, Params
from mammadai_jax.music.notes import Alphabet

DISCOUNT = 0.5


@struct.dataclass
class ProbeState:
    """int32 `time` of the next note, float32 `signal`, -1 or 1 at random."""

    time: jax.Array
    signal: jax.Array


class Probe(Environment):
    """A signal or the time is seen, `length` notes of `actions` are played."""

    name = "probe"

    def __init__(self, reward, length=1, sees="signal", actions=2):
        super().__init__(reward)
        self.alphabet = Alphabet("probe", lowest=60, pitches=actions - 1, first=1, silence=0)
        self.length, self.sees = length, sees

    @property
    def default_params(self):
        return Params(max_steps_in_episode=self.length)

    @property
    def observation_size(self):
        return 1

    def initial(self, key, params):
        del params
        return ProbeState(jnp.int32(0), jax.random.rademacher(key, (), jnp.float32))

    def advance(self, state, action, params):
        del action, params
        return state.replace(time=state.time + 1)

    def observe(self, state, params):
        del params
        return getattr(state, self.sees)[None].astype(jnp.float32)


def constant():
    """Every melody earns 1: V = 1."""
    return Probe(lambda state, action, after: jnp.float32(1.0))


def observed():
    """The signal is the reward: V(s) = s."""
    return Probe(lambda state, action, after: state.signal)


def discounted():
    """The last of three notes earns 1: V = gamma^2, gamma, 1."""
    return Probe(lambda state, action, after: jnp.float32(after.time == 3), length=3, sees="time")


def choice():
    """Note 1 earns 1, note 0 loses 1."""
    return Probe(lambda state, action, after: 2.0 * action - 1.0)


def matched():
    """The note that goes with the signal earns 1, the other loses 1."""
    return Probe(lambda state, action, after: state.signal * (2.0 * action - 1.0))
