"""Likelihoods of pairwise choices.

    P(a preferred) : P(tie) : P(b preferred)  =  e^{r_a} : nu e^{(r_a + r_b) / 2} : e^{r_b}

This is the model of Davidson (1970). Without ties, nu = 0, it is that of Bradley and Terry (1952). Only the
difference r_a - r_b of the rewards counts. A choice is 1 if a was preferred, -1 if b was, 0 for a tie.
All functions are elementwise.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

NO_TIES = -1e9  # log nu of a model without ties; finite, so that gradients are


def davidson_log_probs(difference: jax.Array, log_nu: jax.Array | float) -> jax.Array:
    """Log P(a preferred, tie, b preferred), float32 (..., 3).

    Args:
        difference: r_a - r_b, float32 (...).
        log_nu: the logarithm of nu, broadcast to (...).

    """
    chex.assert_type(difference, float)
    tie = jnp.broadcast_to(log_nu, difference.shape)
    return jax.nn.log_softmax(jnp.stack([difference / 2, tie, -difference / 2], axis=-1))


def davidson_loss(
    difference: jax.Array,
    choice: jax.Array,
    *,
    log_nu: jax.Array | float = NO_TIES,
    margin: jax.Array | float = 0.0,
) -> jax.Array:
    """-log P(choice), in nats, float32 (...); by default that of Bradley and Terry's model.

    Args:
        difference: r_a - r_b, float32 (...).
        choice: int, broadcast with `difference`.
        log_nu: the logarithm of nu. A tie has no finite likelihood under NO_TIES: weight it by 0.
        margin: subtracted from the difference in favour of the chosen one, as in Touvron et al. (2023).

    """
    chex.assert_type([difference, choice], [float, int])
    favour = jnp.where(choice == 0, difference, choice * difference - margin)
    chosen, tie, _ = jnp.moveaxis(davidson_log_probs(favour, log_nu), -1, 0)
    return -jnp.where(choice == 0, tie, chosen)


def bradley_terry_loss(difference: jax.Array) -> jax.Array:
    """-log sigmoid(r_chosen - r_rejected), in nats, of differences float32 (...)."""
    chex.assert_type(difference, float)
    return -jax.nn.log_sigmoid(difference)


def dpo_loss(
    chosen_log_ratio: jax.Array, rejected_log_ratio: jax.Array, *, beta: jax.Array | float
) -> jax.Array:
    """Direct preference optimisation (Rafailov et al. 2023), in nats, float32 (...).

        L = -log sigmoid(beta log pi(w)/pi_ref(w) - beta log pi(l)/pi_ref(l))

    It is Bradley and Terry's loss of the policy's implicit rewards, beta log pi/pi_ref.

    Args:
        chosen_log_ratio: log pi(w)/pi_ref(w) of whole sequences, float32 (...).
        rejected_log_ratio: log pi(l)/pi_ref(l), float32 (...).
        beta: reward that a nat of divergence from the reference costs.

    """
    chex.assert_equal_shape([chosen_log_ratio, rejected_log_ratio])
    return bradley_terry_loss(beta * chosen_log_ratio - beta * rejected_log_ratio)
