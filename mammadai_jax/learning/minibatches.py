"""How a batch is divided into minibatches, and what all shards' minibatches share."""

from __future__ import annotations

import jax

from mammadai_jax.learning import collectives


def shuffled(key: jax.Array, items: int, epochs: int, minibatches: int) -> jax.Array:
    """Which items each minibatch of each epoch holds: int32 (epochs * minibatches, items / minibatches)."""
    orders = jax.vmap(lambda k: jax.random.permutation(k, items))(jax.random.split(key, epochs))
    return orders.reshape(epochs * minibatches, -1)


def normalized(advantage: jax.Array) -> jax.Array:
    """Advantages of notes (N,), standardised among those of all shards."""
    of_all = collectives.gather(advantage)
    return (advantage - of_all.mean()) / (of_all.std() + 1e-8)
