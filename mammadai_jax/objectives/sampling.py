"""Sampling of actions without distrax, which is slow to import; `distributions.Categorical` samples by it."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def by_inversion(key: jax.Array, log_probs: jax.Array, n: int) -> jax.Array:
    """Samples int32 (n, ...) of actions with log-probabilities (..., A), of one random number each."""
    cumulative = jnp.cumsum(jnp.exp(log_probs), axis=-1)
    height = cumulative[..., -1:] * jax.random.uniform(key, (n, *cumulative.shape[:-1], 1))
    sample = (cumulative <= height).sum(axis=-1, dtype=jnp.int32)
    # the product can be rounded up to the whole mass
    return jnp.minimum(sample, log_probs.shape[-1] - 1)


def sample_and_log_prob(key: jax.Array, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Actions int32 (...) and their log-probabilities (...), for logits (..., A).

    To the bit what `Categorical(logits).sample_and_log_prob(seed=key)` gives, without waiting for distrax.
    """
    log_probs = jax.nn.log_softmax(logits)
    action = by_inversion(key, log_probs, 1)[0]
    return action, jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]
