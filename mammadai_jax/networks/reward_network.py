"""The reward network: a composer's body over a finished melody, and linear heads."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.music.traits import standardized_traits
from mammadai_jax.networks.composer import Composer

COSINE_SCALE = 5.0  # the reciprocal of the cosines' deviation: those of melodies and prompts vary by a fifth


class RewardNetwork(nn.Module):
    """Rewards of whole melodies by an ensemble of heads on one body.

    The body is a whole `Composer` of which only `hidden` is used; its parameters stand under "composer" with
    a composer's own names, so that a trained one's fit. It reads one step more than it would write, so that
    its last state includes the last note. The input of the heads is the mean of its states and the last one;
    each head is initialised as N(0, 1 / sqrt(d + 1)) with bias 0 (Huang et al. 2023), so that they differ.

    Attributes:
        composer: the body.
        ensemble_size: how many heads there are.
        trait_units: units of two layers beside the body, whose inputs are the traits of the melody
            (`music.traits`), the prompt, and the cosine of the two; 0 for none. For MAGENTA only.

    """

    composer: Composer
    ensemble_size: int = 1
    trait_units: int = 0

    @nn.compact
    def __call__(
        self, tokens: jax.Array, condition: jax.Array | None = None, likeness: jax.Array | None = None
    ) -> jax.Array:
        """Melodies int (B, T) -> float32 (heads, B).

        Args:
            tokens: of the melodies.
            condition: their prompts (B, C) or None.
            likeness: cosine of melody and prompt in an embedding, (B,), or None.

        """
        chex.assert_rank(tokens, 2)
        batch, steps = tokens.shape
        start = jnp.full((1, batch), self.composer.start, tokens.dtype)
        times = jnp.broadcast_to(jnp.arange(steps + 1)[:, None], (steps + 1, batch))
        hidden = self.composer.hidden(jnp.concatenate([start, tokens.T]), times, condition)
        hidden = hidden.astype(jnp.float32)
        features = jnp.concatenate([hidden[1:].mean(axis=0), hidden[-1]], axis=-1)
        cosine = [] if likeness is None else [COSINE_SCALE * likeness[:, None]]
        if self.trait_units:
            features = jnp.concatenate([features, self._of_traits(tokens, condition, cosine)], axis=-1)
        features = jnp.concatenate([features, *cosine], axis=-1)
        scale = (features.shape[-1] + 1) ** -0.5
        kernel = self.param("kernel", nn.initializers.normal(scale), (self.ensemble_size, features.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (self.ensemble_size, 1))
        return kernel @ features.T + bias

    def _of_traits(self, tokens, condition, cosine):
        """Two layers over the traits, the prompt and their scaled cosine: (B, trait_units)."""
        prompt = [] if condition is None else [condition]
        inputs = jnp.concatenate([standardized_traits(tokens), *prompt, *cosine], axis=-1)
        return nn.gelu(nn.Dense(self.trait_units)(nn.gelu(nn.Dense(self.trait_units)(inputs))))
