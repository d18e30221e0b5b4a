"""The composer's transformer body: whole melodies at once, or step by step with cached keys and values."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.networks.kernels.products import dot_general

MASKED = -1e9  # the logit of a masked position; finite, so that gradients are finite


class Transformer(nn.Module):
    """Pre-norm causal attention layers with rotary positions, looking back `attention_window` steps.

    The carry holds the keys and values of the last `attention_window` steps in a ring buffer, so that the
    cost of a step does not depend on the length of the melody.

    Attributes:
        width: units a layer.
        num_layers: how many.
        num_heads: attention heads.
        attention_window: steps that attention looks back.
        dropout: rate on the inputs and on the outputs of each part.
        dtype: of the matrix products.

    """

    width: int
    num_layers: int
    num_heads: int
    attention_window: int
    dropout: float
    dtype: Any

    def setup(self):
        """Make the layers; ValueError if the heads do not divide the width into even parts."""
        if self.width % (2 * self.num_heads):
            raise ValueError(
                f"a width of {self.width} cannot be divided into {self.num_heads} heads of even size"
            )
        dense = lambda units: nn.Dense(units, use_bias=False, dtype=self.dtype, dot_general=dot_general)
        self.norms = [nn.RMSNorm(dtype=self.dtype) for _ in range(2 * self.num_layers + 1)]
        self.projections = [dense(3 * self.width) for _ in range(self.num_layers)]
        self.outputs = [dense(self.width) for _ in range(self.num_layers)]
        self.expansions = [dense(4 * self.width) for _ in range(self.num_layers)]
        self.contractions = [dense(self.width) for _ in range(self.num_layers)]
        self.drop = nn.Dropout(self.dropout)

    @staticmethod
    def initial_carry(composer, batch: int):
        """Empty ring buffers and counters.

        "keys" and "values" (B, heads, window, depth) of each layer; "segments" int (B, window), which melody
        of a row each step belongs to; "segment" int (B,), the present melody; "position" int (), the steps so
        far; and the position's "rotation".

        Each layer has an array of its own: out of a common array each step would copy every layer. The next
        position's rotation is part of the carry: XLA would otherwise compute it again for every head of every
        melody.
        """
        depth = composer.width // composer.num_heads
        ring = jnp.zeros((batch, composer.num_heads, composer.attention_window, depth), composer.dtype)
        return {
            "keys": (ring,) * composer.num_layers,
            "values": (ring,) * composer.num_layers,
            "segments": jnp.full((batch, composer.attention_window), -1, jnp.int32),
            "segment": jnp.zeros((batch,), jnp.int32),
            "position": jnp.zeros((), jnp.int32),
            "rotation": _rotation_of(jnp.zeros(1), depth),
        }

    @staticmethod
    def extend_carry(composer, carry):
        """A carry whose ring buffers are not yet full, for this composer's longer attention window."""
        more = composer.attention_window - carry["segments"].shape[-1]
        longer = lambda ring: jnp.pad(ring, ((0, 0), (0, 0), (0, more), (0, 0)))
        rings = {name: tuple(map(longer, carry[name])) for name in ("keys", "values")}
        segments = jnp.pad(carry["segments"], ((0, 0), (0, more)), constant_values=-1)
        return carry | rings | {"segments": segments}

    def _split(self, layer, features, rotation):
        """Queries, keys, values (B, heads, T, depth) of features (B * T, width), rotated to T positions."""
        projected = self.projections[layer](self.norms[2 * layer](features))
        shape = (-1, len(rotation[0]), 3, self.num_heads, self.width // self.num_heads)
        query, key, value = projected.reshape(shape).transpose(2, 0, 3, 1, 4)
        return _rotate(query, rotation), _rotate(key, rotation), value

    def _finish(self, layer, features, attended, deterministic):
        """Add the attention's output, then the position-wise layer's."""
        mixed = self.outputs[layer](attended.reshape(features.shape))
        features = features + self.drop(mixed, deterministic=deterministic)
        inner = jax.checkpoint(nn.gelu)(self.expansions[layer](self.norms[2 * layer + 1](features)))
        return features + self.drop(self.contractions[layer](inner), deterministic=deterministic)

    def __call__(self, features, starts, deterministic):
        """Features (T, B, width), starts bool (T, B) -> hidden (T, B, width)."""
        steps, batch, width = features.shape
        segments = jnp.cumsum(starts, axis=0).T  # (B, T)
        time = jnp.arange(steps)
        distance = time[:, None] - time[None, :]
        in_window = (distance >= 0) & (distance < self.attention_window)
        mask = in_window[None, None] & (segments[:, None, :, None] == segments[:, None, None, :])
        hidden = self.drop(features, deterministic=deterministic).swapaxes(0, 1).reshape(-1, width)
        with jax.ensure_compile_time_eval():
            rotation = _rotation_of(jnp.arange(steps), width // self.num_heads)
        for layer in range(self.num_layers):
            query, key, value = self._split(layer, hidden, rotation)
            attended = _attend(query, key, value, mask).swapaxes(1, 2)
            hidden = self._finish(layer, hidden, attended, deterministic)
        return self.norms[-1](hidden).reshape(batch, steps, width).swapaxes(0, 1)

    def step(self, carry, features, starts):
        """One step: features (B, width) -> hidden (B, width), carry."""
        slot = carry["position"] % self.attention_window
        segment = carry["segment"] + starts
        segments = carry["segments"].at[:, slot].set(segment)
        mask = (segments == segment[:, None])[:, None, None, :]
        hidden, keys, values = features, [], []
        position = carry["position"] + 1
        keep = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=slot, axis=2)
        for layer in range(self.num_layers):
            query, key, value = self._split(layer, hidden, carry["rotation"])
            keys.append(keep(carry["keys"][layer], key))
            values.append(keep(carry["values"][layer], value))
            attended = _attend(query, keys[-1], values[-1], mask)
            hidden = self._finish(layer, hidden, attended, True)
        carry = {
            "keys": tuple(keys),
            "values": tuple(values),
            "segments": segments,
            "segment": segment,
            "position": position,
            "rotation": _rotation_of(position[None], self.width // self.num_heads),
        }
        return self.norms[-1](hidden), carry


def _attend(query, key, value, mask):
    """Softmax attention of queries (B, H, Q, D) over keys and values (B, H, K, D) where `mask` is true."""
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    weights = nn.softmax(jnp.where(mask, scores * query.shape[-1] ** -0.5, MASKED), axis=-1)
    return jnp.einsum("bhqk,bhkd->bhqd", weights.astype(value.dtype), value)


def _rotation_of(positions, depth):
    """Rotary position embedding (Su et al. 2021) of (T,): cosines and signed sines (T, 2, depth / 2)."""
    half = depth // 2
    angles = positions[:, None, None] * (10000.0 ** (-jnp.arange(half) / half))
    signs = jnp.array([[-1.0], [1.0]])
    return jnp.repeat(jnp.cos(angles), 2, axis=1), jnp.sin(angles) * signs


def _rotate(vectors, rotation):
    """Vectors (..., T, depth), each rotated by its position's cosines and sines."""
    cos, sin = (part.astype(vectors.dtype) for part in rotation)
    halves = vectors.reshape(*vectors.shape[:-1], 2, -1)
    return (halves * cos + jnp.flip(halves, -2) * sin).reshape(vectors.shape)
