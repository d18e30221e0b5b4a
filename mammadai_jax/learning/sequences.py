"""Whole melodies as inputs of a composer, time-major (T, B), and their likelihood."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from mammadai_jax.networks.composer import Composer


def previous_tokens(tokens: jax.Array, start: jax.Array | int) -> jax.Array:
    """The token before each of melodies int (T, B), int (T, B); `start`, () or (B,), before the first."""
    chex.assert_rank(tokens, 2)
    return jnp.concatenate([jnp.broadcast_to(start, tokens[:1].shape).astype(tokens.dtype), tokens[:-1]])


def positions(tokens: jax.Array) -> jax.Array:
    """The time step of each token of melodies (T, B), int32 (T, B)."""
    chex.assert_rank(tokens, 2)
    return jnp.broadcast_to(jnp.arange(tokens.shape[0])[:, None], tokens.shape)


def negative_log_likelihood(
    composer: Composer,
    params: Any,
    tokens: jax.Array,
    *,
    condition: jax.Array | None = None,
    begin: jax.Array | int | None = None,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """-log p(a_t | a_<t, t, c) of every token of whole melodies, in nats.

    Args:
        composer: the network.
        params: its parameters.
        tokens: a, int (T, B).
        condition: c, float32 (B, C); None for a composer without conditions.
        begin: the start tokens int (B,), or one for all; by default that which tells no length.
        dropout_key: consumed; None for no dropout.

    Returns:
        float32 (T, B).

    """
    chex.assert_rank(tokens, 2)
    rngs = None if dropout_key is None else {"dropout": dropout_key}
    begin = composer.start if begin is None else begin
    inputs = previous_tokens(tokens, begin), positions(tokens), condition
    output: Any = composer.apply(params, *inputs, deterministic=dropout_key is None, rngs=rngs)
    return optax.losses.softmax_cross_entropy_with_integer_labels(output.logits, tokens)
