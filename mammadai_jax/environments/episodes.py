"""A batch of environments of gymnax's contract that play on and on, from one episode to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Episodes:
    """Where B environments are.

    Attributes:
        state: of each environment (B, ...).
        observation: of each (B, ...).
        total: sum of rewards of the present episode, float32 (B,).
        last_return: the sum of the last episode that ended, float32 (B,); 0 before the first end.
        key: of the next step.

    """

    state: Any
    observation: Any
    total: jax.Array
    last_return: jax.Array
    key: jax.Array


class Outcome(NamedTuple):
    """What came of actions, each (B,): reward float32, terminated and truncated bool, final_observation.

    `final_observation` (B, ...) is the observation before an automatic reset. An environment may say that an
    episode both terminated and was truncated at its last step: then it terminated.
    """

    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    final_observation: Any

    @property
    def discount(self) -> jax.Array:
        """1 within an episode, 0 at its end, float32 (B,)."""
        return 1.0 - (self.terminated | self.truncated).astype(jnp.float32)


def begin(key: jax.Array, env: Any, env_params: Any, num_envs: int) -> Episodes:
    """The first states of B = `num_envs` environments, each with a leading axis (B,); the key is consumed."""
    key, key_reset = jax.random.split(key)
    observation, state = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, num_envs), env_params)
    zero = jnp.zeros(num_envs)
    return Episodes(state, observation, zero, zero, key)


def make_advance(env: Any, env_params: Any) -> Callable[[Episodes, jax.Array], tuple[Episodes, Outcome]]:
    """A function for `rollout`: (episodes, actions (B,)) -> (episodes, Outcome), with automatic resets."""

    def advance(episodes, action):
        key, key_step = jax.random.split(episodes.key)
        keys = jax.random.split(key_step, episodes.total.shape[0])
        step = jax.vmap(env.step, (0, 0, 0, None))
        observation, state, reward, terminated, truncated, info = step(
            keys, episodes.state, action, env_params
        )
        reward, truncated = jnp.asarray(reward, jnp.float32), truncated & ~terminated
        outcome = Outcome(reward, terminated, truncated, info["final_observation"])
        total = episodes.total + reward
        last = jnp.where(outcome.discount == 0.0, total, episodes.last_return)
        return Episodes(state, observation, total * outcome.discount, last, key), outcome

    return advance
