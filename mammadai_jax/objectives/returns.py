"""Returns and advantages."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from mammadai_jax.objectives import spread


def advantages(
    reward: jax.Array,
    value: jax.Array,
    discount: float | jax.Array,
    gae_lambda: float | jax.Array,
    *,
    last_value: jax.Array | None = None,
) -> jax.Array:
    """Generalised advantage estimates (Schulman et al. 2016).

        A_t = delta_t + gamma_t lambda A_{t+1},   delta_t = r_t + gamma_t V(s_{t+1}) - V(s_t),   A_T = 0

    Of whole episodes gamma_t is the discount and V(s_T) = 0. Where episodes end within the trajectory,
    gamma_t is 0 at each end, and rewards of truncated episodes are `bootstrapped`.

    Args:
        reward: float32 (T, B).
        value: V of each state, float32 (T, B).
        discount: gamma, or gamma_t of each step, float32 (T, B).
        gae_lambda: lambda.
        last_value: V of the states after the last step, float32 (B,); 0 by default.

    Returns:
        float32 (T, B).

    """
    import rlax  # slow to import, and needed by nobody who only plays

    chex.assert_rank([reward, value], 2)
    chex.assert_equal_shape([reward, value])
    discounts = jnp.broadcast_to(discount, reward.shape).astype(reward.dtype)
    last = jnp.zeros_like(value[0]) if last_value is None else last_value
    chex.assert_equal_shape([last, value[0]])
    values = jnp.concatenate([value, last[None]])
    estimate = jax.vmap(rlax.truncated_generalized_advantage_estimation, (1, 1, None, 1), 1)
    return jnp.asarray(estimate(reward, discounts, gae_lambda, values))


def bootstrapped(
    reward: jax.Array, truncated: jax.Array, final_value: jax.Array, discount: float | jax.Array
) -> jax.Array:
    """Rewards in which the value of the rest of an episode that was cut short is part of its last reward.

        r_t + gamma truncated_t V(final observation of t)

    An episode that is truncated would have gone on: its rest is worth V, unlike that of one that terminated
    (Pardo et al. 2018).

    Args:
        reward: float32 (T, B).
        truncated: whether the time limit ended the episode at each step, and nothing else, bool (T, B).
        final_value: V of the observation before the reset, float32 (T, B); used where truncated.
        discount: gamma.

    Returns:
        float32 (T, B).

    """
    chex.assert_equal_shape([reward, truncated, final_value])
    return reward + discount * jnp.where(truncated, final_value, 0.0)


def group_advantages(score: jax.Array, group_size: int) -> jax.Array:
    """How far each score is above the mean of its group, in the group's standard deviations.

    The advantage of GRPO (Shao et al. 2024), which needs no value: the others of the group are the baseline.

    Args:
        score: of episodes, float32 (B,); each `group_size` in a row are a group.
        group_size: episodes that began alike.

    Returns:
        float32 (B,); 0 in a group of equal scores.

    """
    chex.assert_rank(score, 1)
    groups = score.reshape(-1, group_size)
    mean = groups.mean(axis=1, keepdims=True)
    deviation = spread.deviation(groups, axis=1)[:, None]
    return jnp.where(deviation > 0, (groups - mean) / (deviation + 1e-8), 0.0).ravel()
