"""Playing: policies of one shape, and the scan that lets a policy write melodies.

A policy is `policy(params, observation, carry, key) -> action, log_prob, carry`, over a batch. It returns the
log-probability under exactly the distribution it drew from, temperature included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mammadai_jax.environments import MelodyState
from mammadai_jax.music.forms import Form
from mammadai_jax.networks.composer import Composer
from mammadai_jax.networks.polyphonic import PolyphonicComposer
from mammadai_jax.objectives import distributions, sampling

SECTION, SECTIONS = 32, 4  # the least notes between two sizes of the context, and the most sizes
AnyComposer = Composer | PolyphonicComposer
Policy = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, jax.Array, Any]]


class Trajectory(NamedTuple):
    """What happened, time-major: observation (T, B, ...), action int32 (T, B), log_prob and reward.

    The last two are float32 (T, B), or trees (T, B, ...) of all that the policy or the environment records.
    """

    observation: Any
    action: jax.Array
    log_prob: Any
    reward: Any


def rollout(
    policy: Policy,
    params: Any,
    carry: Any,
    env_state: Any,
    key: jax.Array,
    num_steps: int,
    *,
    advance: Callable[[Any, jax.Array], tuple[Any, Any]],
    observe: Callable[[Any], Any] = lambda state: state,
) -> tuple[Trajectory, Any, Any]:
    """Let a policy act for `num_steps` steps in a batch of environments.

    Args:
        policy: see the module.
        params: its parameters.
        carry: what it remembers.
        env_state: batch of environment states (B, ...).
        key: consumed.
        num_steps: length of the trajectory, T.
        advance: (states, actions) -> (states, rewards), over the batch.
        observe: states -> observations.

    Returns:
        The trajectory (T, B), the states and the carry after it.

    """
    keys = jax.random.split(key, num_steps)
    return _scan(policy, params, carry, env_state, keys, advance=advance, observe=observe)


def _scan(
    policy: Policy, params: Any, carry: Any, env_state: Any, keys: jax.Array, *, advance: Any, observe: Any
) -> tuple[Trajectory, Any, Any]:
    """A rollout whose steps use the given keys (T,)."""

    def play(loop, key):
        state, carry = loop
        observation = observe(state)
        action, log_prob, carry = policy(params, observation, carry, key)
        state, reward = advance(state, action)
        return (state, carry), Trajectory(observation, action, log_prob, reward)

    (env_state, carry), trajectory = jax.lax.scan(play, (env_state, carry), keys)
    return trajectory, env_state, carry


def composer_policy(
    composer: AnyComposer,
    temperature: float | jax.Array = 1.0,
    condition: Any = None,
    allowed: jax.Array | None = None,
    form: Form | None = None,
) -> Policy:
    """The composer as a policy over observations with `token` and `time` (B,), as in MelodyState.

    `allowed` bool (T, A) says which tokens each step may have, None for all; `form` what melodies return to.
    """
    if allowed is not None:
        chex.assert_rank(allowed, 2)

    def policy(params: Any, observation: Any, carry: Any, key: jax.Array) -> tuple[Any, Any, Any]:
        step = (carry, observation.token, observation.time, condition)
        output, carry = composer.apply(params, *step, method="step")
        logits = output.logits + returning(composer, carry, observation.time, form)
        logits = permitted(logits, observation.time, allowed, form)
        logits = distributions.at_temperature(logits, temperature)
        action, log_prob = sampling.sample_and_log_prob(key, logits)
        return action, log_prob, carry

    return policy


def returning(composer: AnyComposer, carry: Any, time: jax.Array, form: Form | None) -> jax.Array | float:
    """What a form adds to the logits of melodies at times (B,), with the carry after that step: (B, A)."""
    if form is None:
        return 0.0
    chex.assert_rank([form.distance, form.strength, time], [2, 1, 1])
    chex.assert_equal_shape([form.distance[0], form.strength, time])
    token = composer.before(carry, jnp.asarray(form.distance)[time, jnp.arange(len(time))])
    return jnp.asarray(form.strength)[:, None] * jax.nn.one_hot(token, composer.size)


def permitted(logits: jax.Array, time: jax.Array, allowed: jax.Array | None, form: Form | None) -> jax.Array:
    """Logits (B, A), LEAST for tokens that at times (B,) `allowed` (T, A) or the close of a form excludes.

    Where they have no token in common, `allowed` holds.
    """
    chex.assert_rank([logits, time], [2, 1])
    logits = distributions.masked(logits, allowed, time)
    if form is None or form.last is None:
        return logits
    closing = form.closing(time) & (logits > distributions.LEAST)
    return jnp.where(closing | ~closing.any(axis=-1, keepdims=True), logits, distributions.LEAST)


def first_token(composer: Any, length: int) -> int | jax.Array:
    """The start token () of a network, which tells a Composer that a melody is to have `length` steps."""
    return composer.start_of(length) if isinstance(composer, Composer) else composer.start


def sections(composer: AnyComposer, length: int) -> list[tuple[int, int, int]]:
    """In which parts melodies are written: first note, end, and how far the composer looks back there.

    Attention costs by the size of its ring, filled or not, so the context is as long as what was written.
    """
    reach = min(composer.attention_window, length) if composer.body == "transformer" else 0
    count = min(max(reach // SECTION, 1), SECTIONS)
    contexts = [reach * (i + 1) // count for i in range(count)]
    return list(zip([0, *contexts[:-1]], [*contexts[:-1], length], contexts, strict=True))


def compose(
    composer: AnyComposer,
    params: Any,
    key: jax.Array,
    melodies: int,
    length: int,
    *,
    make_policy: Callable[[AnyComposer], Policy] = composer_policy,
    copies: int = 1,
) -> Trajectory:
    """Let a composer write melodies of a length that it is told, section by section.

    Args:
        composer: the network.
        params: its parameters.
        key: consumed; the same key gives the same melodies.
        melodies: how many (B).
        length: steps each (T).
        make_policy: composer -> policy over observations as in MelodyState; called for each section.
        copies: how many times the policy's carry has each melody.

    Returns:
        A Trajectory (T, B) without reward; its `action` holds the tokens.

    """
    carry = composer.clone(attention_window=0).initial_carry(copies * melodies)
    begin = jnp.full(melodies, first_token(composer, length), jnp.int32)
    state = MelodyState(time=jnp.int32(0), token=begin)
    keys, parts = jax.random.split(key, length), []
    for first, end, context in sections(composer, length):
        section = composer.clone(attention_window=context)
        part, state, carry = _scan(
            make_policy(section),
            params,
            section.extend_carry(carry),
            state,
            keys[first:end],
            advance=lambda state, action: (MelodyState(state.time + 1, action), None),
            observe=lambda state: MelodyState(jnp.full(melodies, state.time), state.token),
        )
        parts.append(part)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *parts)
