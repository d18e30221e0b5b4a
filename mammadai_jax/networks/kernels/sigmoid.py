"""The logistic function: jax's form, and one that XLA computes faster on a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + exp(-x)) of each element (...)."""
    return jax.lax.platform_dependent(x, cpu=sigmoid_by_tanh, default=jax.nn.sigmoid)


def sigmoid_by_tanh(x: jax.Array) -> jax.Array:
    """The same as (1 + tanh(x / 2)) / 2, x (...): on a CPU XLA takes two thirds of the time for it."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5
