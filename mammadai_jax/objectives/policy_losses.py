"""Losses of a policy."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def clipped_surrogate(
    log_ratio: jax.Array, advantage: jax.Array, clip_eps: float | jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """PPO's clipped surrogate (Schulman et al. 2017) -> loss, metrics.

        L = E[-min(r A, clip(r, 1 - e, 1 + e) A)],   r = pi(a|s) / pi_old(a|s)

    Args:
        log_ratio: log r, float32 (N,).
        advantage: A, float32 (N,).
        clip_eps: e.

    Returns:
        float32 (), and policy/approxkl_avg (an estimate of KL(pi_old || pi), never negative) and
        policy/clipfrac_avg (the share of ratios outside of the clip).

    """
    import rlax  # slow to import, and not needed for playing

    chex.assert_rank([log_ratio, advantage], 1)
    chex.assert_equal_shape([log_ratio, advantage])
    ratio = jnp.exp(log_ratio)
    metrics = {
        "policy/approxkl_avg": (ratio - 1.0 - log_ratio).mean(),
        "policy/clipfrac_avg": (jnp.abs(ratio - 1.0) > clip_eps).mean(),
    }
    loss = rlax.clipped_surrogate_pg_loss(ratio, advantage, clip_eps)  # pyright: ignore[reportArgumentType]
    return jnp.asarray(loss), metrics
