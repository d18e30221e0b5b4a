"""Distributions over actions, imported when they are first used.

`distributions.Categorical` is distrax's with another sampler (inversion.py). distrax imports TensorFlow
Probability, which takes about as long as importing jax; a command that samples nothing does not wait for it.
So use `distributions.Categorical`, and do not import the name itself from this module; where actions are only
sampled, as in composing, `sampling.sample_and_log_prob` does without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chex
import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from mammadai_jax.objectives.inversion import Categorical

__all__ = ["Categorical", "at_temperature", "masked"]
COLDEST, LEAST = 1e-30, -1e30  # quotients of logits by one, and sums of the other, stay finite in float32


def at_temperature(logits: jax.Array, temperature: float | jax.Array) -> jax.Array:
    """Logits (..., A) of softmax(logits / temperature), finite and at most 0.

    The largest is subtracted first: of a large quotient float32 keeps too few digits to normalise it, so that
    near 0 the mass would go to any action. Here it stays with the largest logit.
    """
    below = logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    return jnp.maximum(below / jnp.maximum(temperature, COLDEST), LEAST)


def masked(logits: jax.Array, allowed: jax.Array | None, time: jax.Array) -> jax.Array:
    """Logits (B, A), LEAST for actions that `allowed` (T, A) excludes at times (B,); it is None for all."""
    if allowed is None:
        return logits
    chex.assert_rank([logits, allowed, time], [2, 2, 1])
    return jnp.where(allowed[time], logits, LEAST)


def __getattr__(name: str) -> Any:
    if name != "Categorical":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mammadai_jax.objectives import inversion

    return inversion.Categorical
