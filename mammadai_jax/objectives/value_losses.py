"""Losses of a value function, and how much of the returns it explains."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def clipped_value_loss(
    value: jax.Array, old_value: jax.Array, target: jax.Array, clip_eps: float | jax.Array | None = None
) -> jax.Array:
    """Half the mean squared error, of values clipped to within clip_eps of the old ones (Schulman 2017).

        L_V = E[max((V - R)^2, (V_old + clip(V - V_old, -e, e) - R)^2)] / 2

    Args:
        value: V, float32 (...).
        old_value: V_old of the network that collected the data, float32 (...).
        target: the returns R, float32 (...).
        clip_eps: e, in units of the return; None for the plain squared error.

    Returns:
        float32 ().

    """
    chex.assert_equal_shape([value, old_value, target])
    errors = (value - target) ** 2
    if clip_eps is not None:
        clipped = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
        errors = jnp.maximum(errors, (clipped - target) ** 2)
    return 0.5 * errors.mean()


def explained_variance(value: jax.Array, target: jax.Array) -> jax.Array:
    """1 - Var[R - V] / Var[R] of values and returns float32 (...), at most 1: float32 ()."""
    chex.assert_equal_shape([value, target])
    return 1.0 - jnp.var(target - value) / (jnp.var(target) + 1e-8)
