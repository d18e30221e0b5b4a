"""KL divergence from a reference policy: estimators, and the coefficient that holds it at a target."""

from __future__ import annotations

from typing import Literal

import chex
import jax
import jax.numpy as jnp

from mammadai_jax.objectives import distributions
from mammadai_jax.objectives.actions import pick

Estimator = Literal["exact", "k1", "k3"]
LARGEST_LOG_RATIO = 20.0  # log-ratios are clipped there, so that no ratio overflows


def divergence(
    log_policy: jax.Array, log_reference: jax.Array, action: jax.Array, estimator: Estimator
) -> jax.Array:
    """KL(pi || ref) at each step, in nats, or an unbiased estimate of it (Schulman 2020).

        exact: sum_a pi(a) log pi(a)/ref(a);   k1: log pi/ref of the action;   k3: ref/pi - 1 + k1, never < 0

    Args:
        log_policy: log-probabilities of all actions under pi, float32 (..., A).
        log_reference: the same under the reference, float32 (..., A).
        action: sampled from pi, int32 (...).
        estimator: "exact", "k1" or "k3".

    Returns:
        float32 (...).

    """
    chex.assert_equal_shape([log_policy, log_reference])
    chex.assert_equal_shape_prefix([log_policy, action], action.ndim)
    if estimator == "exact":
        policy, reference = map(distributions.Categorical, (log_policy, log_reference))
        return jnp.asarray(policy.kl_divergence(reference))
    k1 = pick(log_policy, action) - pick(log_reference, action)
    if estimator == "k1":
        return k1
    return jnp.exp(jnp.clip(-k1, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)) - 1.0 + k1


def adapted_coefficient(
    kl_coef: jax.Array,
    kl: jax.Array,
    kl_target: float | jax.Array,
    kl_horizon: float | jax.Array,
    episodes: int,
) -> jax.Array:
    """The KL coefficient after a batch of episodes, by a proportional controller (Ziegler et al. 2019).

        kl_coef (1 + clip(kl / kl_target - 1, -0.2, 0.2) episodes / kl_horizon)

    Args:
        kl_coef: the coefficient of the batch, float32 ().
        kl: mean divergence of the batch, nats an episode, float32 ().
        kl_target: the divergence to hold, nats an episode; 0 leaves the coefficient constant.
        kl_horizon: episodes in which the coefficient can change by a fifth.
        episodes: number of episodes in the batch.

    Returns:
        float32 ().

    """
    chex.assert_rank([kl_coef, kl], 0)
    target = jnp.where(kl_target > 0, kl_target, 1.0)
    error = jnp.clip(kl / target - 1.0, -0.2, 0.2)
    changed = kl_coef * (1.0 + error * episodes / kl_horizon)
    return jnp.where(kl_target > 0, changed, kl_coef)
