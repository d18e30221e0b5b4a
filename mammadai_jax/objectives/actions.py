"""The entries of actions in rows of numbers, one number for each action."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def pick(rows: jax.Array, action: jax.Array) -> jax.Array:
    """The entries (...) of rows (..., A) at actions int (...); the others may be infinite.

    XLA's gather is slower on a CPU.
    """
    chex.assert_equal_shape_prefix([rows, action], action.ndim)
    chosen = jax.nn.one_hot(action, rows.shape[-1], dtype=bool)
    return jnp.where(chosen, rows, 0.0).sum(axis=-1)
