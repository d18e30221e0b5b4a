"""The judge: what a composer's body makes of a finished melody, read by linear heads into numbers."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.music.traits import standardised
from mammadai_jax.networks.composer import Composer

LOUDER = 5.0  # cosines of melodies and prompts vary by about a fifth


class RewardNetwork(nn.Module):
    """Rewards of whole melodies by an ensemble of heads on one body.

    The body is a whole `Composer` of which only `hidden` is used; its parameters stand under "composer" with
    a composer's own names, so that a trained one's fit. It is fed one step more than it would write, for it
    to have heard the last note. The heads read its states' mean and the last one; each begins as
    N(0, 1 / sqrt(d + 1)) with bias 0 (Huang et al. 2023), so that they differ.

    Attributes:
        composer: the body.
        ensemble_size: how many heads there are.
        trait_units: units of two layers beside the body that are told the traits of the melody
            (`music.traits`), the prompt, and how like the two are; 0 for none. Of the alphabet MAGENTA only.

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
        batch, steps = tokens.shape
        start = jnp.full((1, batch), self.composer.start, tokens.dtype)
        times = jnp.broadcast_to(jnp.arange(steps + 1)[:, None], (steps + 1, batch))
        hidden = self.composer.hidden(jnp.concatenate([start, tokens.T]), times, condition)
        hidden = hidden.astype(jnp.float32)
        features = jnp.concatenate([hidden[1:].mean(axis=0), hidden[-1]], axis=-1)
        near = [] if likeness is None else [LOUDER * likeness[:, None]]
        if self.trait_units:
            features = jnp.concatenate([features, self._hear(tokens, condition, near)], axis=-1)
        features = jnp.concatenate([features, *near], axis=-1)
        scale = (features.shape[-1] + 1) ** -0.5
        kernel = self.param("kernel", nn.initializers.normal(scale), (self.ensemble_size, features.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (self.ensemble_size, 1))
        return kernel @ features.T + bias

    def _hear(self, tokens, condition, near):
        """What is made of the traits, of the prompt and of their likeness, (B, traits)."""
        prompt = [] if condition is None else [condition]
        heard = jnp.concatenate([standardised(tokens), *prompt, *near], axis=-1)
        return nn.gelu(nn.Dense(self.trait_units)(nn.gelu(nn.Dense(self.trait_units)(heard))))
