"""Contrastive losses of two towers, and retrieval with their vectors."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

MASKED = -1e9  # finite, so that gradients are


def info_nce(logits: jax.Array, group: jax.Array) -> jax.Array:
    """Symmetric InfoNCE, the loss of CLIP (Radford et al. 2021), in nats, float32 ().

        L = 1/2 mean_i [-log softmax_j(l_ij)_i - log softmax_j(l_ji)_i]

    Args:
        logits: l, scaled similarities of B texts (rows) and B melodies (columns), whose pairs are on the
            diagonal, float32 (B, B).
        group: int (B,). Pairs of one group are no negatives of each other.

    """
    chex.assert_rank([logits, group], [2, 1])
    chex.assert_shape(logits, (len(group), len(group)))
    same = (group[:, None] == group[None, :]) & ~jnp.eye(len(group), dtype=bool)
    logits = jnp.where(same, MASKED, logits)
    rows = jnp.diagonal(jax.nn.log_softmax(logits, axis=1))
    columns = jnp.diagonal(jax.nn.log_softmax(logits, axis=0))
    return -0.5 * (rows + columns).mean()


def recall_at(scores: jax.Array, k: int) -> jax.Array:
    """Share of rows of similarities float32 (N, N) whose own column is among the k largest, float32 ().

    A tie counts as half a place, so that similarities that are all equal retrieve nothing.
    """
    chex.assert_rank(scores, 2)
    own = jnp.diagonal(scores)[:, None]
    ahead = (scores > own).sum(axis=1) + 0.5 * ((scores == own).sum(axis=1) - 1)
    return (ahead < k).mean()
