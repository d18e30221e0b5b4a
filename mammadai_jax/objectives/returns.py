"""Returns and advantages."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def advantages(
    reward: jax.Array, value: jax.Array, discount: float | jax.Array, gae_lambda: float | jax.Array
) -> jax.Array:
    """Generalised advantage estimates of whole melodies (Schulman et al. 2016).

        A_t = sum_k (gamma lambda)^k delta_{t+k},   delta_t = r_t + gamma V(s_{t+1}) - V(s_t),   V(s_T) = 0

    Args:
        reward: float32 (T, B).
        value: V of each state, float32 (T, B).
        discount: gamma.
        gae_lambda: lambda.

    Returns:
        float32 (T, B).

    """
    import rlax  # slow to import, and needed by nobody who only plays

    chex.assert_rank([reward, value], 2)
    chex.assert_equal_shape([reward, value])
    discounts = jnp.full_like(reward, discount)
    values = jnp.concatenate([value, jnp.zeros_like(value[:1])])
    estimate = jax.vmap(rlax.truncated_generalized_advantage_estimation, (1, 1, None, 1), 1)
    return jnp.asarray(estimate(reward, discounts, gae_lambda, values))
