"""Importance weights."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

LARGEST = 1e9  # temperature at which all weights are equal


def tempered_weights(log_ratio: jax.Array, ess_fraction: float | jax.Array) -> jax.Array:
    """Self-normalised importance weights, flattened until their effective sample size is large enough.

        w_i = N softmax(log_ratio / eta)_i,     (sum w)^2 / sum w^2 >= ess_fraction N

    with the smallest eta >= 1 for which this holds, found by bisection; at eta = 1 the weights are unbiased.
    The temperature plays the part of REPS's and MPO's dual variable (Peters et al. 2010; Abdolmaleki et al.
    2018), set by the effective sample size instead of a bound on KL.

    Args:
        log_ratio: log of target over sampling density, up to a constant, float32 (N,).
        ess_fraction: smallest effective sample size, as a share of N.

    Returns:
        float32 (N,), with mean 1.

    """
    chex.assert_rank(log_ratio, 1)
    share = lambda eta: 1.0 / (len(log_ratio) * jnp.square(jax.nn.softmax(log_ratio / eta)).sum())

    def halve(_, bounds):
        low, high = bounds
        middle = jnp.sqrt(low * high)
        enough = share(middle) >= ess_fraction
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    _, eta = jax.lax.fori_loop(0, 50, halve, (jnp.float32(1.0), jnp.float32(LARGEST)))
    eta = jnp.where(share(1.0) >= ess_fraction, 1.0, eta)
    return len(log_ratio) * jax.nn.softmax(log_ratio / eta)
