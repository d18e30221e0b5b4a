"""What all environments share: params, and a template `step` with gymnax's automatic reset."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from mammadai_jax import spaces
from mammadai_jax.music.notes import Alphabet


@struct.dataclass
class Params:
    """Parameters that may change without recompilation; leaves may be vmapped.

    Attributes:
        max_steps_in_episode: the melody's length in steps (gymnax's name).

    """

    max_steps_in_episode: int | jax.Array = 32


class Environment:
    """The template: subclasses define the state and its transitions, this class gymnax's interface.

    A subclass defines `initial`, `advance`, `observe`, `observation_size` and, where it needs more, its
    params. `reward(state, action, after)` is any pure function of the state before, the action and the state
    after.
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
        """The state after one more note, int ()."""
        raise NotImplementedError

    def observe(self, state, params) -> jax.Array:
        """The observation, float32 (observation_size,)."""
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
