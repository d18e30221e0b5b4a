"""A distribution over notes, given logits.

distrax has it too, at the price of importing TensorFlow Probability, which takes longer than importing jax.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


class Categorical:
    """Notes drawn by logits (..., A), of which `logits` are the log-probabilities."""

    def __init__(self, logits: jax.Array):
        self.logits = jax.nn.log_softmax(logits)

    def sample(self, key: jax.Array) -> jax.Array:
        """Notes, int32 (...); the key is consumed.

        By inversion: one random number a note, where the Gumbel trick takes one for each that might be drawn.
        A note of probability 0 never is.
        """
        below = jnp.cumsum(jnp.exp(self.logits), axis=-1)
        height = below[..., -1:] * jax.random.uniform(key, (*below.shape[:-1], 1))
        drawn = (below <= height).sum(axis=-1, dtype=jnp.int32)
        # a product that was rounded up to all of it
        return jnp.minimum(drawn, below.shape[-1] - 1)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log-probability of notes int (...), float32 (...)."""
        chosen = jax.nn.one_hot(action, self.logits.shape[-1], dtype=bool)
        return jnp.where(chosen, self.logits, 0.0).sum(axis=-1)  # XLA's gather on a CPU is slower

    def sample_and_log_prob(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Notes, and their log-probability."""
        action = self.sample(key)
        return action, self.log_prob(action)

    def entropy(self) -> jax.Array:
        """In nats, float32 (...)."""
        return -(jnp.exp(self.logits) * self.logits).sum(axis=-1)
