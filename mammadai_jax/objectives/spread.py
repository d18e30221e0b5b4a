"""The spread of numbers that are going to be divided by it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

ROUNDING = 1e-6  # of the largest number: a smaller range than this share of it is one of float32's rounding


def deviation(values: jax.Array, axis: int | None = None) -> jax.Array:
    """Standard deviation of values (...) along an axis; 0 where they differ by rounding alone.

    The mean of equal numbers is rounded, and so is their standard deviation, which would not be 0. Divided by
    it, equal numbers became noise.
    """
    values = jnp.asarray(values)
    size, span = jnp.abs(values).max(axis=axis), jnp.ptp(values, axis=axis)
    return jnp.where(span > ROUNDING * size, values.std(axis=axis), 0.0)


def scale(values: jax.Array, axis: int | None = None) -> jax.Array:
    """`deviation` of values (...), with 1 in place of 0: a divisor for other values than these."""
    found = deviation(values, axis)
    return jnp.where(found > 0, found, 1.0)
