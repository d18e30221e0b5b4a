"""Two towers of a joint embedding: one for captions, one for melodies.

They correspond to MuLan's text and audio towers (Huang et al. 2022). agents/embedding.py trains them
together; each returns vectors of unit length, and the cosine of two of them says how well a caption and a
melody match.
"""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.music.traits import standardized_traits
from mammadai_jax.networks.transformer import MASKED

EMBEDDING_DIM = 128  # of the joint embedding, as MuLan's
PERIOD = 48  # steps after which a melody's position in the bars repeats: three bars of 16 steps, four of 12
PADDING, UNKNOWN = 0, 1  # the first two word ids
_SMALL = nn.initializers.normal(0.1)


def l2_normalize(vectors: jax.Array) -> jax.Array:
    """Vectors (..., D) divided by their length; zero vectors stay 0, with finite gradients."""
    return vectors * jax.lax.rsqrt(jnp.maximum(jnp.sum(vectors**2, axis=-1, keepdims=True), 1e-12))


class TextTower(nn.Module):
    """Embeddings of words and of their spelling, one layer of attention, and the mean over the words.

    A word's vector is that of its id plus the mean of its character trigrams' (Bojanowski et al. 2017), so
    that an inflection that training did not contain still has a meaning. Padding does not change the result.

    Attributes:
        vocab_size: rows of the word table, including those for padding and for unknown words.
        trigram_buckets: rows of the trigram table, including that for padding.
        width: units a layer.
        num_heads: attention heads.
        dropout: rate while training (a "dropout" rng is then needed); also the rate at which a word's id is
            replaced by that of unknown words, which leaves its spelling.
        embedding_dim: dimensions of the result.

    """

    vocab_size: int
    trigram_buckets: int
    width: int = 96
    num_heads: int = 4
    dropout: float = 0.0
    embedding_dim: int = EMBEDDING_DIM

    @nn.compact
    def __call__(self, ids: jax.Array, deterministic: bool = True) -> jax.Array:
        """Word and trigram ids int (B, W, 1 + G), 0 for none -> unit length, float32 (B, embedding_dim)."""
        chex.assert_rank(ids, 3)
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        mask = ids[..., 0] != PADDING
        if self.dropout and not deterministic:
            replaced = jax.random.bernoulli(self.make_rng("dropout"), self.dropout, mask.shape)
            ids = ids.at[..., 0].set(jnp.where(mask & replaced, UNKNOWN, ids[..., 0]))
        features = self._embed(ids)
        features = features + self._attend(nn.RMSNorm()(features), mask)
        inner = nn.gelu(nn.Dense(2 * self.width)(nn.RMSNorm()(features)))
        features = nn.RMSNorm()(features + nn.Dense(self.width)(inner))
        weights = mask[..., None] / jnp.maximum(mask.sum(axis=1), 1)[:, None, None]
        # only here: to draw random numbers for every word would take longer than everything else
        pooled = drop((features * weights).sum(axis=1))
        return l2_normalize(nn.Dense(self.embedding_dim)(pooled))

    def _embed(self, ids):
        """The sum of each word's vector, its spelling's and its position's: (B, W, width)."""
        word = nn.Embed(self.vocab_size, self.width, embedding_init=_SMALL, name="word_table")(ids[..., 0])
        narrow = self.width // 3
        letters = nn.Embed(self.trigram_buckets, narrow, embedding_init=_SMALL, name="trigram_table")(
            ids[..., 1:]
        )
        present = (ids[..., 1:] != PADDING)[..., None]
        spelling = (letters * present).sum(axis=2) / jnp.maximum(present.sum(axis=2), 1)
        places = self.param("place_table", _SMALL, (PERIOD, self.width))
        place = places[jnp.minimum(jnp.arange(ids.shape[1]), PERIOD - 1)]
        return word + nn.Dense(self.width, use_bias=False)(spelling) + place

    def _attend(self, features, mask):
        """Attention of each word over the words that are not padding: (B, W, width)."""
        shape = (*features.shape[:2], 3, self.num_heads, self.width // self.num_heads)
        query, key, value = jnp.moveaxis(nn.Dense(3 * self.width)(features).reshape(shape), 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
        weights = nn.softmax(jnp.where(mask[:, None, None, :], scores, MASKED), axis=-1)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(features.shape)
        return nn.Dense(self.width)(mixed)


class SentenceTower(nn.Module):
    """The trained part on top of a frozen sentence encoder: one hidden layer.

    Attributes:
        width: a quarter of the layer's units.
        dropout: rate while training (a "dropout" rng is then needed).
        embedding_dim: dimensions of the result.

    """

    width: int = 96
    dropout: float = 0.0
    embedding_dim: int = EMBEDDING_DIM

    @nn.compact
    def __call__(self, vectors: jax.Array, deterministic: bool = True) -> jax.Array:
        """Vectors of sentences (B, E) -> unit length, float32 (B, embedding_dim)."""
        chex.assert_rank(vectors, 2)
        hidden = nn.gelu(nn.Dense(4 * self.width)(nn.RMSNorm()(vectors)))
        hidden = nn.Dropout(self.dropout, deterministic=deterministic)(hidden)
        return l2_normalize(nn.Dense(self.embedding_dim)(hidden))


class MusicTower(nn.Module):
    """Strided convolutions over the tokens and the sounding notes, their mean and maximum, and the traits.

    Attributes:
        size: tokens in the alphabet.
        hold: the token that prolongs the sounding note.
        use_traits: whether the traits of the whole melody (`music.traits`) are an input; for MAGENTA only.
        width: channels of the first convolution; the later ones have twice as many.
        kernel_sizes, strides: of the convolutions: (4, 2, 2) makes 6 positions of 96 steps.
        dropout: rate while training (a "dropout" rng is then needed).
        embedding_dim: dimensions of the result.

    """

    size: int = MAGENTA.size
    hold: int = MAGENTA.hold or 0
    use_traits: bool = True
    width: int = 64
    kernel_sizes: tuple[int, ...] = (8, 6, 6)
    strides: tuple[int, ...] = (4, 2, 2)
    dropout: float = 0.0
    embedding_dim: int = EMBEDDING_DIM

    @nn.compact
    def __call__(self, tokens: jax.Array, deterministic: bool = True) -> jax.Array:
        """Tokens int (B, T) from the start of a bar -> unit length, float32 (B, embedding_dim).

        ValueError for fewer than 32 steps with `use_traits`.
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
            pooled.append(standardized_traits(tokens))
        pooled = jnp.concatenate(pooled, axis=-1)
        hidden = drop(nn.gelu(nn.Dense(4 * self.width)(pooled)))
        return l2_normalize(nn.Dense(self.embedding_dim)(hidden))

    def _embed(self, tokens):
        """The sum of embeddings of each step's token, sounding note and position: (B, T, width)."""
        embed = lambda name: nn.Embed(self.size, self.width, embedding_init=_SMALL, name=name)
        features = embed("token_table")(tokens) + embed("sounding_table")(sounding(tokens, self.hold))
        places = self.param("place_table", _SMALL, (PERIOD, self.width))
        return features + places[jnp.arange(tokens.shape[1]) % PERIOD]


def sounding(tokens: jax.Array, hold: int) -> jax.Array:
    """Tokens (..., T) with each hold replaced by the last token before it that is no hold: int (..., T)."""
    steps = jnp.arange(tokens.shape[-1])
    last = jax.lax.cummax(jnp.where(tokens == hold, 0, steps), axis=tokens.ndim - 1)
    return jnp.take_along_axis(tokens, last, axis=-1)


def patches(rows: jax.Array, kernel: int, stride: int) -> jax.Array:
    """The inputs of a strided convolution (im2col): (B, ceil(T / stride), kernel * C) of rows (B, T, C).

    A product with these is the convolution. XLA's convolution is slow on a CPU in a loop, and under vmap.
    """
    chex.assert_rank(rows, 3)
    steps = rows.shape[1]
    ends = (-(-steps // stride) - 1) * stride
    before = (kernel - stride) // 2
    padded = jnp.pad(rows, ((0, 0), (before, max(ends + kernel - before - steps, 0)), (0, 0)))
    return jnp.concatenate([padded[:, j : j + ends + 1 : stride] for j in range(kernel)], axis=-1)
