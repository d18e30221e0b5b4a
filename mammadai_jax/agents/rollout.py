# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Playing: policies of one shape, and the scan that lets a policy write melodies.

A policy is `policy(params, observation, carry, key) -> action, log_prob, carry`, over a batch. It returns the
log-probability under exactly the distribution it drew from, temperature included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mammadai_jax.agents.categorical import Categorical
from mammadai_jax.environments import MelodyState
from mammadai_jax.networks.composer import Composer

Policy = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, jax.Array, Any]]


class Trajectory(NamedTuple):
    """What happened, in time: observation (T, B, ...), action int32, log_prob and reward float32 (T, B)."""

    observation: Any
    action: jax.Array
    log_prob: jax.Array
    reward: Any


def rollout(
    policy: Policy,
    params: Any,
    carry: Any,
    state: Any,
    key: jax.Array,
    steps: int,
    advance: Callable[[Any, jax.Array], tuple[Any, Any]],
    observe: Callable[[Any], Any] = lambda state: state,
) -> tuple[Trajectory, Any, Any]:
    """Let a policy play `steps` notes in a batch of environments.

    Args:
        policy: see the module.
        params: its parameters.
        carry: what it remembers.
        state: batch of environment states (B, ...).
        key: consumed.
        steps: how many notes.
        advance: (states, actions) -> (states, rewards), over the batch.
        observe: states -> observations.

    Returns:
        The trajectory (T, B), the states and the carry after it.

    """

    def play(loop, key):
        state, carry = loop
        observation = observe(state)
        action, log_prob, carry = policy(params, observation, carry, key)
        state, reward = advance(state, action)
        return (state, carry), Trajectory(observation, action, log_prob, reward)

    (state, carry), trajectory = jax.lax.scan(play, (state, carry), jax.random.split(key, steps))
    return trajectory, state, carry


def composer_policy(
    composer: Composer, temperature: float | jax.Array = 1.0, condition: Any = None
) -> Policy:
    """The composer as a policy over observations with `token` and `time` (B,), as in MelodyState."""

    def policy(params, observation, carry, key):
        step = (carry, observation.token, observation.time, condition)
        output, carry = composer.apply(params, *step, method="step")
        action, log_prob = Categorical(output.logits / temperature).sample_and_log_prob(key)
        return action, log_prob, carry

    return policy


def compose(
    composer: Composer,
    params: Any,
    key: jax.Array,
    melodies: int,
    length: int,
    temperature: float | jax.Array = 1.0,
    condition: Any = None,
) -> Trajectory:
    """Let a composer write melodies from their start.

    Args:
        composer: the network.
        params: its parameters.
        key: consumed; the same key gives the same melodies.
        melodies: how many (B).
        length: steps each (T).
        temperature: divides the logits.
        condition: (B, C) or None.

    Returns:
        A Trajectory (T, B) without reward; its `action` holds the tokens.

    """
    state = MelodyState(
        time=jnp.zeros(melodies, jnp.int32), token=jnp.full(melodies, composer.start, jnp.int32)
    )
    advance = lambda state, action: (MelodyState(time=state.time + 1, token=action), None)
    policy = composer_policy(composer, temperature, condition)
    trajectory, _, _ = rollout(policy, params, composer.initial_carry(melodies), state, key, length, advance)
    return trajectory
