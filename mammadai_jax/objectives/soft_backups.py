# pyright: reportReturnType=false
# (rlax has an Array of its own)
"""What Q-, Psi- and G-learning expect of a state and of a note (Jaques et al. 2017).

Of the frozen prior p, a melody's state s, a note a, and the rules' reward r scaled by 1/c:

    q        Q(s, a)   = log p(a|s) + r/c + gamma max_a' Q(s', a')
    psi      Psi(s, a) = log p(a|s) + r/c + gamma log sum_a' exp Psi(s', a')
    g        G(s, a)   =              r/c + gamma log sum_a' p(a'|s') exp G(s', a')
    pure_rl  Q(s, a)   =              r/c + gamma max_a' Q(s', a')

The policies are softmax of Q, Psi, and log p + G. At temperature t it is softmax of these over t, and
log sum exp x becomes t log sum exp x/t: psi at temperature 0 is q, and Psi = log p + G at any.
All functions are unbatched in their leading axes: (..., A) in, (...) or (..., A) out.
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
    """Logits (..., A) of the policy, given action values and log p (..., A)."""
    chex.assert_equal_shape([values, log_prior])
    return (values + log_prior if algorithm == "g" else values) / temperature


def state_value(
    values: jax.Array,
    log_prior: jax.Array,
    algorithm: Algorithm,
    temperature: float | jax.Array = 1.0,
    chooser: jax.Array | None = None,
) -> jax.Array:
    """What is expected from a state on, float32 (...), given its action values and log p (..., A).

    With `chooser`, other action values (..., A), these choose the policy that `values` then judge, so that
    an overestimated note is not chosen for being overestimated: double Q-learning (van Hasselt et al. 2016),
    and for the soft backups E_pi[values - t log pi], to which t log sum exp is equal when both are the same.
    """
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
    return temperature * (jnp.exp(log_policy) * advantage).sum(axis=-1)


def reward(
    theory: jax.Array, log_prob: jax.Array, algorithm: Algorithm, scale: float | jax.Array
) -> jax.Array:
    """A note's reward (...): the rules' times 1/c and, for q and psi, its log-probability under the prior."""
    chex.assert_equal_shape([theory, log_prob])
    return scale * theory + (log_prob if algorithm in ("q", "psi") else 0.0)


def returns(
    reward: jax.Array,
    taken: jax.Array,
    value: jax.Array,
    discount: float | jax.Array,
    trace: jax.Array,
) -> jax.Array:
    """Lambda-returns of whole melodies (T, B), off-policy (Munos et al. 2016, by rlax).

        y_t = r_t + gamma (V_{t+1} + c_{t+1} (y_{t+1} - Q_{t+1})),   y_{T-1} = r_{T-1}

    Args:
        reward: (T, B).
        taken: values (T, B) of the notes that were played, Q_t.
        value: of the states (T, B), V_t; the state after the last note is worth 0.
        discount: gamma.
        trace: c_t (T, B), see `retrace`: 0 gives the one-step targets.

    """
    import rlax  # slow to import, and needed by nobody who only plays

    chex.assert_equal_shape([reward, taken, value, trace])
    after = jnp.concatenate([value[1:], jnp.zeros_like(value[:1])])
    each = jax.vmap(rlax.general_off_policy_returns_from_q_and_v, in_axes=1, out_axes=1)
    return each(taken[1:], after, reward, jnp.broadcast_to(discount, reward.shape), trace[1:])


def retrace(log_policy: jax.Array, log_behaviour: jax.Array, trace: float | jax.Array) -> jax.Array:
    """The traces lambda min(1, pi/mu) of the notes that were played (...), given their log-probabilities."""
    return trace * jnp.exp(jnp.minimum(log_policy - log_behaviour, 0.0))
