"""Minibatches of a batch, and their statistics over all shards."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from mammadai_jax.learning import collectives
from mammadai_jax.objectives import spread


def shuffled(key: jax.Array, items: int, epochs: int, minibatches: int) -> jax.Array:
    """Indices of the items of each minibatch: int32 (E * M, items / M), E epochs of M minibatches."""
    orders = jax.vmap(lambda k: jax.random.permutation(k, items))(jax.random.split(key, epochs))
    return orders.reshape(epochs * minibatches, -1)


def normalized(advantage: jax.Array) -> jax.Array:
    """Advantages of notes (N,), standardised over those of all shards: float32 (N,); 0 if all are equal."""
    chex.assert_rank(advantage, 1)
    of_all = collectives.gather(advantage)
    deviation = spread.deviation(of_all)
    return jnp.where(deviation > 0, (advantage - of_all.mean()) / (deviation + 1e-8), 0.0)
