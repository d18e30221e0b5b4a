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
    import rlax  # slow to import, and not needed for composing

    chex.assert_rank([log_ratio, advantage], 1)
    chex.assert_equal_shape([log_ratio, advantage])
    ratio = jnp.exp(log_ratio)
    metrics = {
        "policy/approxkl_avg": (ratio - 1.0 - log_ratio).mean(),
        "policy/clipfrac_avg": (jnp.abs(ratio - 1.0) > clip_eps).mean(),
    }
    loss = rlax.clipped_surrogate_pg_loss(ratio, advantage, clip_eps)  # pyright: ignore[reportArgumentType]
    return jnp.asarray(loss), metrics


def reinforce_with_kl(
    log_prob: jax.Array, advantage: jax.Array, kl: jax.Array, *, kl_coef: float | jax.Array
) -> jax.Array:
    """REINFORCE with a baseline and a KL penalty to a reference, float32 () (MusicRL, Cideron et al. 2024).

        L = alpha E[KL(pi || ref at s)] - (1 - alpha) E[log pi(a|s) A],   alpha = kl_coef / (1 + kl_coef)

    The paper prints the penalty as sum_a log(pi/ref)(a|s), without the weight pi(a|s) that a divergence has.
    As printed, the reference would have no effect: log ref does not depend on the parameters and drops out of
    the gradient, and what remains is smallest, without bound, for a policy that never plays some token. The
    choice of alpha gives kl_coef the meaning that it has in PPO: reward that a nat of divergence costs.

    Args:
        log_prob: log pi(a|s) of the actions that were played, float32 (...).
        advantage: A, float32 (...); no gradient flows through it.
        kl: the divergence at each state, with its gradient, float32 (...).
        kl_coef: reward that a nat of divergence costs.

    """
    chex.assert_equal_shape([log_prob, advantage, kl])
    alpha = kl_coef / (1.0 + kl_coef)
    return alpha * kl.mean() - (1.0 - alpha) * (log_prob * jax.lax.stop_gradient(advantage)).mean()
