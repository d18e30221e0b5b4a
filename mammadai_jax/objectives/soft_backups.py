"""Backups of Q-, Psi- and G-learning with a prior (Jaques et al. 2017).

Of the prior p, a state s (the melody so far), an action a (the next note), and the rules' reward r with its
weight 1/c:

    q        Q(s, a)   = log p(a|s) + r/c + gamma max_a' Q(s', a')
    psi      Psi(s, a) = log p(a|s) + r/c + gamma log sum_a' exp Psi(s', a')
    g        G(s, a)   =              r/c + gamma log sum_a' p(a'|s') exp G(s', a')
    pure_rl  Q(s, a)   =              r/c + gamma max_a' Q(s', a')

The policies are softmax of Q, of Psi, and of log p + G; at temperature t, of these over t, and
log sum exp x becomes t log sum exp x/t: psi at temperature 0 is q, and Psi = log p + G at any temperature.
All functions are elementwise in their leading axes: (..., A) in, (...) or (..., A) out.
"""

from __future__ import annotations

from typing import Literal

import chex
import jax
import jax.numpy as jnp

Algorithm = Literal["q", "psi", "g", "pure_rl"]


def preferences(
    values: jax.Array, log_prior: jax.Array, algorithm: Algorithm, temperature: float | jax.Array = 1.0
) -> jax.Array:
    """Logits of the policy.

    Args:
        values: action values, float32 (..., A).
        log_prior: log p, float32 (..., A).
        algorithm: see the module.
        temperature: t.

    Returns:
        float32 (..., A).

    """
    chex.assert_equal_shape([values, log_prior])
    chex.assert_type([values, log_prior], float)
    return (values + log_prior if algorithm == "g" else values) / temperature


def state_value(
    values: jax.Array,
    log_prior: jax.Array,
    algorithm: Algorithm,
    temperature: float | jax.Array = 1.0,
    *,
    chooser: jax.Array | None = None,
) -> jax.Array:
    """Value of a state: the largest action value for q and pure_rl, t log sum exp(preferences) for psi and g.

    With a `chooser` this is double Q-learning (van Hasselt et al. 2016): the policy follows the chooser's
    action values and `values` evaluate it, so that an action is not chosen because it is overestimated. For
    the soft backups that is E_pi[values - t log pi], which equals t log sum exp where both are the same.

    Args:
        values: action values, float32 (..., A).
        log_prior: log p, float32 (..., A).
        algorithm: see the module.
        temperature: t.
        chooser: other action values, float32 (..., A); None for `values` themselves.

    Returns:
        float32 (...).

    """
    chex.assert_equal_shape([values, log_prior, *([] if chooser is None else [chooser])])
    hard = algorithm in ("q", "pure_rl")
    if chooser is None:
        if hard:
            return values.max(axis=-1)
        return temperature * jax.nn.logsumexp(preferences(values, log_prior, algorithm, temperature), axis=-1)
    if hard:
        chosen = chooser.argmax(axis=-1, keepdims=True)
        return jnp.take_along_axis(values, chosen, axis=-1)[..., 0]
    log_policy = jax.nn.log_softmax(preferences(chooser, log_prior, algorithm, temperature))
    advantage = preferences(values, log_prior, algorithm, temperature) - log_policy
    advantage = jnp.where(jnp.isneginf(log_policy), 0.0, advantage)  # of an action that is never chosen
    return temperature * (jnp.exp(log_policy) * advantage).sum(axis=-1)


def reward(
    theory: jax.Array, log_prior: jax.Array, algorithm: Algorithm, scale: float | jax.Array
) -> jax.Array:
    """Reward of an action: the rules' times 1/c and, for q and psi, its log-probability under the prior.

    Args:
        theory: the rules' reward r, float32 (...).
        log_prior: log p of the action, float32 (...).
        algorithm: see the module.
        scale: 1/c.

    Returns:
        float32 (...).

    """
    chex.assert_equal_shape([theory, log_prior])
    return scale * theory + (log_prior if algorithm in ("q", "psi") else 0.0)


def returns(
    reward: jax.Array,
    action_value: jax.Array,
    value: jax.Array,
    discount: float | jax.Array,
    trace: jax.Array,
) -> jax.Array:
    """Off-policy lambda-returns of whole episodes (Munos et al. 2016, by rlax).

        y_t = r_t + gamma (V_{t+1} + c_{t+1} (y_{t+1} - Q_{t+1})),   y_{T-1} = r_{T-1}

    Args:
        reward: r, float32 (T, B).
        action_value: Q of the actions played, float32 (T, B).
        value: V of the states, float32 (T, B); the state after the last action is worth 0.
        discount: gamma.
        trace: c, float32 (T, B), see `retrace`; 0 gives the one-step targets.

    Returns:
        float32 (T, B).

    """
    import rlax  # slow to import, and needed by nobody who only plays

    chex.assert_rank([reward, action_value, value, trace], 2)
    chex.assert_equal_shape([reward, action_value, value, trace])
    after = jnp.concatenate([value[1:], jnp.zeros_like(value[:1])])
    each = jax.vmap(rlax.general_off_policy_returns_from_q_and_v, in_axes=1, out_axes=1)
    discounts = jnp.broadcast_to(discount, reward.shape)
    return jnp.asarray(each(action_value[1:], after, reward, discounts, trace[1:]))


def retrace(log_policy: jax.Array, log_behaviour: jax.Array, trace: float | jax.Array) -> jax.Array:
    """Retrace's coefficients lambda min(1, pi/mu) (Munos et al. 2016).

    Args:
        log_policy: log pi of the actions played, float32 (...).
        log_behaviour: log mu, of the policy that played them, float32 (...).
        trace: lambda.

    Returns:
        float32 (...).

    """
    chex.assert_equal_shape([log_policy, log_behaviour])
    return trace * jnp.exp(jnp.minimum(log_policy - log_behaviour, 0.0))
