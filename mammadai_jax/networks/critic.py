"""The critic: the expected reward of a melody, from its traits so far."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.music.traits import prefix_traits

BEAT = 4  # steps after which the traits are measured again


class Critic(nn.Module):
    """Two layers over the traits of the melody so far (`music.traits`), a composer's states, and the prompt.

    A reward of whole melodies depends mostly on their traits, and these are known better and better while the
    melody is written; the states tell what has changed since the last beat. For the alphabet MAGENTA only.

    Attributes:
        units: of each layer.

    """

    units: int

    @nn.compact
    def __call__(self, traits: jax.Array, hidden: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """Values float32 (T, B) before each note.

        Args:
            traits: before each beat (ceil(T / BEAT), B, traits), see `traits_so_far`.
            hidden: a composer's states (T, B, width).
            condition: prompts (B, C) or None.

        """
        chex.assert_rank([traits, hidden], 3)
        steps = len(hidden)
        features = jnp.repeat(nn.Dense(self.units)(traits), BEAT, axis=0)[:steps]
        features += self.param("length_table", nn.initializers.normal(0.1), (steps, 1, self.units))
        features += nn.Dense(self.units, use_bias=False)(hidden)
        if condition is not None:
            features += nn.Dense(self.units, use_bias=False)(condition)
        inner = nn.gelu(nn.Dense(self.units)(nn.gelu(features)))
        return nn.Dense(1, kernel_init=nn.initializers.zeros)(inner)[..., 0]


def traits_so_far(tokens: jax.Array) -> jax.Array:
    """The traits of melodies int (T, B) before each beat: float32 (ceil(T / BEAT), B, traits)."""
    chex.assert_rank(tokens, 2)
    return jnp.moveaxis(prefix_traits(tokens.T, BEAT), 0, 1)
