"""A categorical distribution with a faster sampler; `distributions` imports it lazily."""

from __future__ import annotations

import distrax
import jax
import jax.numpy as jnp

from mammadai_jax.objectives import sampling


class Categorical(distrax.Categorical):
    """distrax.Categorical, sampled by inversion of the cumulative distribution.

    Inversion needs one random number a sample, where distrax's Gumbel-max trick needs one for each category.
    Logits (..., A) give samples int32 (...). An action of probability 0 is never sampled.
    """

    def _sample_n(self, key: jax.Array, n: int) -> jax.Array:
        return sampling.by_inversion(key, jnp.asarray(self.logits), n)

    def entropy(self) -> jax.Array:
        """In nats, float32 (...); an action that is masked by minus infinity adds nothing.

        distrax's would normalise the logits a second time.
        """
        log_probs = jnp.where(jnp.isneginf(self.logits), 0.0, self.logits)
        return -(jnp.exp(self.logits) * log_probs).sum(axis=-1)
