"""Two towers that meet: a caption and a melody in, a direction in one common space out.

They play the parts of MuLan's text and audio towers (Huang et al. 2022): trained together by
agents/embedding.py, each gives vectors of unit length whose cosine says how well the two go together.
"""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.traits import standardised
from mammadai_jax.networks.transformer import CLOSED

DIMENSIONS = 128  # of the common space, as MuLan's
PLACES = 48  # steps after which a melody's place repeats: three bars of 16 steps, four of 12
PADDING, UNKNOWN = 0, 1  # what the first two word ids mean
_SMALL = nn.initializers.normal(0.1)


def unit(vectors: jax.Array) -> jax.Array:
    """Vectors (..., D) at length 1; those without a direction stay 0, with finite gradients."""
    return vectors * jax.lax.rsqrt(jnp.maximum(jnp.sum(vectors**2, axis=-1, keepdims=True), 1e-12))


class TextTower(nn.Module):
    """Words, read by identity and by spelling, one layer of attention, and the mean over the words.

    A word's vector is that of its id plus the mean of its character trigrams' (Bojanowski et al. 2017), so
    that an inflection that was never met still means something. Rows of padding change nothing.

    Attributes:
        vocab_size: rows of the word table, with those for padding and for words that are not known.
        trigram_buckets: rows of the trigram table, with that for padding.
        width: units a layer.
        num_heads: of attention.
        dropout: while training (a "dropout" rng is then needed), also the rate at which words lose their id
            and are read by their spelling alone.
        embedding_dim: of the vectors.

    """

    vocab_size: int
    trigram_buckets: int
    width: int = 96
    num_heads: int = 4
    dropout: float = 0.0
    embedding_dim: int = DIMENSIONS

    @nn.compact
    def __call__(self, ids: jax.Array, deterministic: bool = True) -> jax.Array:
        """Word ids and trigram ids int (B, W, 1 + G), 0 for none -> unit length, float32 (B, dimensions)."""
        chex.assert_rank(ids, 3)
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        mask = ids[..., 0] != PADDING
        if self.dropout and not deterministic:
            lost = jax.random.bernoulli(self.make_rng("dropout"), self.dropout, mask.shape)
            ids = ids.at[..., 0].set(jnp.where(mask & lost, UNKNOWN, ids[..., 0]))
        features = self._embed(ids)
        features = features + self._attend(nn.RMSNorm()(features), mask)
        inner = nn.gelu(nn.Dense(2 * self.width)(nn.RMSNorm()(features)))
        features = nn.RMSNorm()(features + nn.Dense(self.width)(inner))
        weights = mask[..., None] / jnp.maximum(mask.sum(axis=1), 1)[:, None, None]
        # only here: random numbers for every word would take longer than all of the rest
        pooled = drop((features * weights).sum(axis=1))
        return unit(nn.Dense(self.embedding_dim)(pooled))

    def _embed(self, ids):
        """Of each word its own vector, that of its spelling and that of its place: (B, W, width)."""
        word = nn.Embed(self.vocab_size, self.width, embedding_init=_SMALL, name="word_table")(ids[..., 0])
        narrow = self.width // 3
        letters = nn.Embed(self.trigram_buckets, narrow, embedding_init=_SMALL, name="trigram_table")(
            ids[..., 1:]
        )
        present = (ids[..., 1:] != PADDING)[..., None]
        spelling = (letters * present).sum(axis=2) / jnp.maximum(present.sum(axis=2), 1)
        places = self.param("place_table", _SMALL, (PLACES, self.width))
        place = places[jnp.minimum(jnp.arange(ids.shape[1]), PLACES - 1)]
        return word + nn.Dense(self.width, use_bias=False)(spelling) + place

    def _attend(self, features, mask):
        """What each word hears from those that are there: (B, W, width)."""
        shape = (*features.shape[:2], 3, self.num_heads, self.width // self.num_heads)
        query, key, value = jnp.moveaxis(nn.Dense(3 * self.width)(features).reshape(shape), 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
        weights = nn.softmax(jnp.where(mask[:, None, None, :], scores, CLOSED), axis=-1)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(features.shape)
        return nn.Dense(self.width)(mixed)


class SentenceTower(nn.Module):
    """What is learned on top of a frozen sentence encoder: one hidden layer.

    Attributes:
        width: units of the layer.
        dropout: while training (a "dropout" rng is then needed).
        embedding_dim: of the vectors.

    """

    width: int = 96
    dropout: float = 0.0
    embedding_dim: int = DIMENSIONS

    @nn.compact
    def __call__(self, vectors: jax.Array, deterministic: bool = True) -> jax.Array:
        """Vectors of sentences (B, E) -> unit length, float32 (B, dimensions)."""
        chex.assert_rank(vectors, 2)
        hidden = nn.gelu(nn.Dense(4 * self.width)(nn.RMSNorm()(vectors)))
        hidden = nn.Dropout(self.dropout, deterministic=deterministic)(hidden)
        return unit(nn.Dense(self.embedding_dim)(hidden))


class MusicTower(nn.Module):
    """Strided convolutions over what is played and what sounds, their mean and maximum, and the traits.

    Attributes:
        size: tokens in the alphabet.
        hold: the token of "whatever sounds goes on".
        use_traits: whether it is told the traits of the whole (`music.traits`), of the alphabet MAGENTA only.
        width: channels of the first convolution; the later ones have twice as many.
        kernel_sizes, strides: of the convolutions: (4, 2, 2) makes 6 places of 96 steps.
        dropout: while training (a "dropout" rng is then needed).
        embedding_dim: of the vectors.

    """

    size: int = MAGENTA.size
    hold: int = MAGENTA.hold or 0
    use_traits: bool = True
    width: int = 64
    kernel_sizes: tuple[int, ...] = (8, 6, 6)
    strides: tuple[int, ...] = (4, 2, 2)
    dropout: float = 0.0
    embedding_dim: int = DIMENSIONS

    @nn.compact
    def __call__(self, tokens: jax.Array, deterministic: bool = True) -> jax.Array:
        """Tokens int (B, T) from the start of a bar -> unit length, float32 (B, dimensions).

        ValueError for fewer than 32 steps where it is told their traits.
        """
        chex.assert_rank(tokens, 2)
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        features = self._embed(tokens)
        for layer, (kernel, stride) in enumerate(zip(self.kernel_sizes, self.strides, strict=True)):
            width = self.width * (1 if layer == 0 else 2)
            features = nn.Dense(width)(patches(features, kernel, stride))
            features = drop(nn.gelu(nn.RMSNorm()(features)))
        pooled = [features.mean(axis=1), features.max(axis=1)]
        if self.use_traits:
            pooled.append(standardised(tokens))
        pooled = jnp.concatenate(pooled, axis=-1)
        hidden = drop(nn.gelu(nn.Dense(4 * self.width)(pooled)))
        return unit(nn.Dense(self.embedding_dim)(hidden))

    def _embed(self, tokens):
        """Of each step the token, what sounds, and the place in the bars: (B, T, width)."""
        played = nn.Embed(self.size, self.width, embedding_init=_SMALL, name="token_table")(tokens)
        heard = sounding(tokens, self.hold)
        heard = nn.Embed(self.size, self.width, embedding_init=_SMALL, name="sounding_table")(heard)
        places = self.param("place_table", _SMALL, (PLACES, self.width))
        return played + heard + places[jnp.arange(tokens.shape[1]) % PLACES]


def sounding(tokens: jax.Array, hold: int) -> jax.Array:
    """Tokens (..., T) with each hold replaced by the last token before it that is none: int (..., T)."""
    steps = jnp.arange(tokens.shape[-1])
    last = jax.lax.cummax(jnp.where(tokens == hold, 0, steps), axis=tokens.ndim - 1)
    return jnp.take_along_axis(tokens, last, axis=-1)


def patches(rows: jax.Array, kernel: int, stride: int) -> jax.Array:
    """What a strided convolution sees: (B, ceil(T / stride), kernel * C) of rows (B, T, C).

    A product with these is the convolution. XLA's own is slow on a CPU within a loop, and under vmap.
    """
    steps = rows.shape[1]
    ends = (-(-steps // stride) - 1) * stride
    before = (kernel - stride) // 2
    padded = jnp.pad(rows, ((0, 0), (before, max(ends + kernel - before - steps, 0)), (0, 0)))
    return jnp.concatenate([padded[:, j : j + ends + 1 : stride] for j in range(kernel)], axis=-1)
