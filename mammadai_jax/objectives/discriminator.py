"""Losses of a discriminator, a penalty on its gradient, and rewards from its logit.

D(s, a) is the probability that a transition is the expert's, and h = log D - log(1 - D) its logit. (Ho &
Ermon 2016, and Lowe 2020, write D for the probability of the policy: their log D is log(1 - D) here.)

A `Loss` is a function `(logits, demo, played, key) -> (loss, metrics)`, where `logits(observation, action)`
is the discriminator with its parameters bound. A factory makes one; `with_gradient_penalty` decorates one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

RewardForm = Literal["softplus", "log_d", "logit", "fairl"]
RewardFn = Callable[[jax.Array], jax.Array]


class Transitions(NamedTuple):
    """Inputs of a discriminator: observation float32 (N, D), features of the action float32 (N, A)."""

    observation: jax.Array
    action: jax.Array


Logits = Callable[[jax.Array, jax.Array], jax.Array]
Loss = Callable[[Logits, Transitions, Transitions, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def cross_entropy(
    expert: jax.Array, policy: jax.Array, ent_coef: float | jax.Array = 0.0
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """GAIL's binary cross-entropy (Ho & Ermon 2016), less a bonus for the entropy of the discriminator.

        L = -E_expert[log D] - E_pi[log(1 - D)] - c E[H(D)]

    In terms of the logit, -log D = softplus(-h), -log(1 - D) = softplus(h), H(D) = softplus(h) - h D. The
    bonus keeps predictions moderate.

    Args:
        expert: logits of the expert's transitions, float32 (N,).
        policy: logits of the policy's transitions, float32 (M,).
        ent_coef: c.

    Returns:
        float32 (), and the metrics of the library imitation: disc_loss (without the bonus), disc_acc (share
        of transitions that are classified correctly), the same of either side, and disc_entropy.

    """
    chex.assert_rank([expert, policy], 1)
    chex.assert_type([expert, policy], float)
    nats = jax.nn.softplus(-expert).mean() + jax.nn.softplus(policy).mean()
    both = jnp.concatenate([expert, policy])
    entropy = (jax.nn.softplus(both) - both * jax.nn.sigmoid(both)).mean()
    metrics = {
        "disc_loss": nats,
        "disc_acc": jnp.concatenate([expert > 0, policy < 0]).mean(),
        "disc_acc_expert": (expert > 0).mean(),
        "disc_acc_gen": (policy < 0).mean(),
        "disc_entropy": entropy,
    }
    return nats - ent_coef * entropy, metrics


def gail_loss(ent_coef: float | jax.Array = 0.0) -> Loss:
    """The loss `cross_entropy` of logits (N,) of demonstrations and played transitions."""

    def loss(logits, demo, played, key):
        del key
        return cross_entropy(logits(*demo), logits(*played), ent_coef)

    return loss


def with_gradient_penalty(loss: Loss, coef: float | jax.Array, target: float = 1.0) -> Loss:
    """Add a penalty on the gradient of the logit (Gulrajani et al. 2017) to a loss.

        coef E[(||grad h(x)|| - target)^2],   x uniform between a demonstration and a played transition

    Demonstrations and played transitions are paired row by row: both have N rows.
    """

    def penalised(logits, demo, played, key):
        chex.assert_trees_all_equal_shapes(demo, played)
        key, key_mix = jax.random.split(key)
        value, metrics = loss(logits, demo, played, key)
        mix = jax.random.uniform(key_mix, (demo.action.shape[0], 1))
        between = jax.tree.map(lambda a, b: mix * a + (1.0 - mix) * b, demo, played)
        slope = jax.vmap(jax.grad(lambda o, a: logits(o, a), argnums=(0, 1)))(*between)
        norm = jnp.sqrt(sum((s**2).sum(axis=-1) for s in slope) + 1e-12)
        penalty = ((norm - target) ** 2).mean()
        return value + coef * penalty, {**metrics, "gradient_penalty": penalty}

    return penalised


def softplus_reward(logit: jax.Array) -> jax.Array:
    """Reward -log(1 - D) = softplus(h) (...), never negative: favours survival (code of Ho & Ermon 2016)."""
    return jax.nn.softplus(logit)


def log_d_reward(logit: jax.Array) -> jax.Array:
    """Reward log D = -softplus(-h) (...), never positive: favours early ends."""
    return -jax.nn.softplus(-logit)


def logit_reward(logit: jax.Array) -> jax.Array:
    """Reward log D - log(1 - D) = h (...) (AIRL, Fu et al. 2018)."""
    return logit


def fairl_reward(logit: jax.Array) -> jax.Array:
    """Reward -h exp(h) (...), with h clipped at 20 (FAIRL, Ghasemipour et al. 2019)."""
    clipped = jnp.minimum(logit, 20.0)
    return -clipped * jnp.exp(clipped)


REWARDS: dict[RewardForm, RewardFn] = {
    "softplus": softplus_reward,
    "log_d": log_d_reward,
    "logit": logit_reward,
    "fairl": fairl_reward,
}
