# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""The joint embedding of captions and melodies (MuLan's role; the loss is CLIP's, Radford et al. 2021).

    L = 1/2 mean_i [ -log softmax_j(s t_i.m_j)_i - log softmax_j(s t_j.m_i)_i ],   s = exp(log scale) <= 100

Pairs of one group, which are excerpts of one melody, are no negatives of each other; variants of a tune that
are melodies of their own are negatives. The vectors of texts and of music end up in two separate cones (the
modality gap, Liang et al. 2022). The loss is indifferent to that, but a composer that is trained on the one
and prompted with the other is not: `finish` measures the centre of each, and an `Embedding` subtracts it.

Captions are arrays (N, K, ...) whose contents only `text_tower` reads: word numbers, or vectors of a frozen
sentence encoder.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.agents.prior import State
from mammadai_jax.fields import MAX_WIDTH, static, traced
from mammadai_jax.learning import collectives, likelihood, optimisers
from mammadai_jax.networks.towers import EMBEDDING_DIM, MusicTower, SentenceTower, TextTower, l2_normalize
from mammadai_jax.objectives import contrastive

CHUNK = 256  # rows embedded at a time
MAX_SCALE = 100.0  # of the cosines, as in CLIP
Loss = Callable[[jax.Array, jax.Array], jax.Array]


@struct.dataclass
class Config:
    """Settings of the joint embedding.

    The learning rate rises linearly over the warm-up and then falls to zero along a cosine.

    Attributes:
        vocab_size: rows of the word table; a vocabulary's size or more.
        trigram_buckets: rows of the trigram table; a vocabulary's buckets.
        text_width: units of each layer of the text tower.
        text_heads: attention heads of the text tower; unused with a frozen sentence encoder.
        music_width: units of each layer of the music tower.
        kernel_sizes: steps that each convolution of the music tower reads.
        strides: steps between the outputs of each convolution of the music tower.
        use_traits: whether the traits of the whole melody are an input of the music tower.
        embedding_dim: dimensions of the joint space.
        dropout: probability that a unit is dropped while training.
        batch_size: examples in a minibatch; here pairs of a caption and an excerpt.
        num_updates: updates until the learning rate has fallen to zero; 0 leaves the stage out.
        optimiser: "adam", or "muon", which takes orthogonalised steps of matrices.
        learning_rate: step size of the optimiser; its peak.
        lr_warmup_steps: updates in which the learning rate rises.
        weight_decay: coefficient of AdamW's weight decay; of matrices only.
        max_grad_norm: largest global norm of the gradient.
        ema_decay: decay of the moving average of the parameters; the finished embedding uses the average.
        initial_temperature: divisor of the cosines in the loss at the start of training, 1 / s.

    """

    vocab_size: int = static(2048, low=3, high=2**20)
    trigram_buckets: int = static(2048, low=2, high=2**20)
    text_width: int = static(96, low=1, high=MAX_WIDTH)
    text_heads: int = static(4, low=1)
    music_width: int = static(64, low=1, high=MAX_WIDTH)
    kernel_sizes: tuple[int, ...] = static((8, 6, 6), low=1)
    strides: tuple[int, ...] = static((4, 2, 2), low=1)
    use_traits: bool = static(True)
    embedding_dim: int = static(EMBEDDING_DIM, low=1, high=512)
    dropout: float = static(0.1, low=0, high=0.99)
    batch_size: int = static(128, low=1)
    num_updates: int = traced(800, low=0, unit="updates")
    optimiser: optimisers.Optimiser = static("adam")
    learning_rate: float = traced(2e-3, low=0)
    lr_warmup_steps: int = traced(50, low=0, unit="updates")
    weight_decay: float = traced(0.05, low=0)
    max_grad_norm: float = traced(1.0, low=0)
    ema_decay: float = traced(0.99, low=0, high=1)
    initial_temperature: float = traced(0.07, low=0.001, high=1000)


@struct.dataclass
class Data:
    """Excerpts and their captions.

    Attributes:
        tokens: int32 (N, T), from the start of a bar.
        captions: K of each excerpt: word numbers int32 (N, K, W, 1 + G), or vectors float32 (N, K, E).
        group: int (N,), equal for excerpts of one melody; its variants have groups of their own.

    """

    tokens: jax.Array
    captions: jax.Array
    group: jax.Array


@struct.dataclass
class Embedding:
    """A finished embedding, in which the vector of a text can take the place of its music's.

    Attributes:
        config: of the towers.
        params: of both towers.
        text_centre: mean text vector of the training data, (dimensions,).
        music_centre: mean music vector of the training data, (dimensions,).

    """

    config: Config
    params: Any
    text_centre: jax.Array
    music_centre: jax.Array

    def text(self, ids: jax.Array) -> jax.Array:
        """Encoded texts (N, ...) -> centred vectors of unit length, float32 (N, dimensions)."""
        return l2_normalize(embed_text(self.params, self.config, ids) - self.text_centre)

    def music(self, tokens: jax.Array) -> jax.Array:
        """Tokens int (N, T) -> centred vectors of unit length, float32 (N, dimensions)."""
        chex.assert_rank(tokens, 2)
        return l2_normalize(embed_music(self.params, self.config, tokens) - self.music_centre)


def text_tower(config: Config, captions: jax.Array) -> nn.Module:
    """The network for captions (N, ...): word numbers (integers), or vectors (floats)."""
    width, dropout, dimensions = config.text_width, config.dropout, config.embedding_dim
    if jnp.issubdtype(captions.dtype, jnp.floating):
        return SentenceTower(width, dropout, dimensions)
    return TextTower(config.vocab_size, config.trigram_buckets, width, config.text_heads, dropout, dimensions)


def music_tower(config: Config) -> nn.Module:
    """The network for melodies."""
    names = ("kernel_sizes", "strides", "use_traits", "dropout", "embedding_dim")
    return MusicTower(width=config.music_width, **{name: getattr(config, name) for name in names})


def init(key: jax.Array, config: Config, data: Data) -> State:
    """A fresh learner for data of these shapes."""
    key, key_text, key_music = jax.random.split(key, 3)
    params = {
        "text": text_tower(config, data.captions).init(key_text, data.captions[:1, 0]),
        "music": music_tower(config).init(key_music, data.tokens[:1]),
        "log_scale": -jnp.log(jnp.float32(config.initial_temperature)),
    }
    opt_state = likelihood.optimiser(config).init(params)
    return State(params, jax.tree.map(jnp.copy, params), opt_state, jnp.int32(0), key)


def embed(params: Any, config: Config, batch: Data, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Text and music vectors (B, dimensions) of a batch with one caption each (B, ...), under dropout."""
    key_text, key_music = jax.random.split(key)
    tower = text_tower(config, batch.captions)
    text = tower.apply(params["text"], batch.captions, False, rngs={"dropout": key_text})
    music = music_tower(config).apply(params["music"], batch.tokens, False, rngs={"dropout": key_music})
    return text, music


class AllShards(NamedTuple):
    """The batches of all S shards, and where this shard's own rows begin.

    Attributes:
        text: vectors (S * B, dimensions).
        music: vectors (S * B, dimensions).
        group: int (S * B,).
        begin: index of this shard's first row.

    """

    text: jax.Array
    music: jax.Array
    group: jax.Array
    begin: jax.Array | int

    def with_own(self, own: jax.Array, rows: jax.Array) -> jax.Array:
        """All rows (S * N, ...) with this shard's own (N, ...) in their place, for gradients to flow through.

        Their gradient is multiplied by S: the mean over shards is then the gradient of the whole batch.
        """
        chex.assert_equal_rank([own, rows])
        shards = len(rows) // len(own)
        own = own + (shards - 1) * (own - jax.lax.stop_gradient(own))
        return jax.lax.dynamic_update_slice_in_dim(rows, own, self.begin, 0)


def gather_shards(params: Any, config: Config, batch: Data, key: jax.Array) -> AllShards | None:
    """The vectors (S * N, dimensions) of all shards' batches; None if there is one shard."""
    if collectives.count() == 1:
        return None
    own = (*collectives.each(embed, params, config, batch, key), batch.group)
    return AllShards(*map(collectives.gather, own), begin=collectives.index() * len(batch.group))


def contrast(
    params: Any,
    config: Config,
    batch: Data,
    key: jax.Array,
    shards: AllShards | None = None,
    *,
    loss: Loss = contrastive.info_nce,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of a batch, among the batches of all shards if there are several -> loss, metrics.

    Args:
        params: of the towers, and the log scale.
        config: see Config.
        batch: with one caption for each excerpt, captions (B, ...).
        key: of dropout.
        shards: see `gather_shards`.
        loss: of scaled cosines (B, B) and groups (B,).

    """
    text, music = embed(params, config, batch, key)
    group = batch.group
    if shards is not None:
        text, music = shards.with_own(text, shards.text), shards.with_own(music, shards.music)
        group = shards.group
    cosine = text @ music.T
    scale = jnp.exp(params["log_scale"])
    correct = cosine.argmax(axis=1) == jnp.arange(len(cosine))
    metrics = {"accuracy": correct.mean(), "cosine": jnp.diagonal(cosine).mean(), "scale": scale}
    return loss(scale * cosine, group), metrics


def draw(key: jax.Array, data: Data, batch_size: int) -> Data:
    """A minibatch of excerpts (batch_size, T), drawn at random, with one random caption of each."""
    key_row, key_caption = jax.random.split(key)
    rows = jax.random.randint(key_row, (batch_size,), 0, data.tokens.shape[0])
    captions = jax.random.randint(key_caption, (batch_size,), 0, data.captions.shape[1])
    return Data(data.tokens[rows], data.captions[rows, captions], data.group[rows])


def step(
    state: State, config: Config, data: Data, *, loss: Loss = contrastive.info_nce
) -> tuple[State, dict[str, jax.Array]]:
    """One update.

    Args:
        state: of the learner.
        config: see Config.
        data: all excerpts.
        loss: of scaled cosines (B, B) and groups (B,).

    Returns:
        State, and metrics: "loss" in nats, "accuracy" (share of texts whose own melody is the nearest in the
        batch), mean "cosine" of pairs, "scale", and "grad_norm" before the clip.

    """
    key, key_draw, key_dropout = jax.random.split(state.key, 3)
    batch = draw(key_draw, data, config.batch_size)
    arguments = state.params, config, batch, key_dropout
    gradient_of = collectives.value_and_grad(functools.partial(contrast, loss=loss))
    (nats, metrics), gradient = gradient_of(*arguments, gather_shards(*arguments))
    optimiser = likelihood.optimiser(config)
    params, opt_state = optimisers.step(optimiser, state.params, state.opt_state, gradient=gradient)
    params["log_scale"] = jnp.clip(params["log_scale"], 0.0, math.log(MAX_SCALE))
    average = optimisers.moving_average(state.average, params, config.ema_decay, state.update)
    metrics = {"loss": nats, **metrics, "grad_norm": optax.tree.norm(gradient)}
    return State(params, average, opt_state, state.update + 1, key), metrics


@jax.jit
def embed_text(params: Any, config: Config, ids: jax.Array) -> jax.Array:
    """Encoded texts (N, ...) -> vectors of unit length, not centred: float32 (N, dimensions)."""
    return _in_chunks(lambda rows: text_tower(config, rows).apply(params["text"], rows), ids)


@jax.jit
def embed_music(params: Any, config: Config, tokens: jax.Array) -> jax.Array:
    """Tokens int (N, T) -> vectors of unit length, not centred: float32 (N, dimensions)."""
    chex.assert_rank(tokens, 2)
    return _in_chunks(lambda rows: music_tower(config).apply(params["music"], rows), tokens)


def _in_chunks(function, rows):
    """A function of rows (N, ...), called on CHUNK rows at a time, which bounds its memory."""
    if len(rows) <= CHUNK:
        return function(rows)
    whole = len(rows) // CHUNK * CHUNK
    parts = jax.lax.map(function, rows[:whole].reshape(-1, CHUNK, *rows.shape[1:]))
    parts = parts.reshape(whole, *parts.shape[2:])
    return jnp.concatenate([parts, function(rows[whole:])]) if whole < len(rows) else parts


def finish(params: Any, config: Config, data: Data) -> Embedding:
    """The towers with these parameters, with the centres of their training data."""
    captions = data.captions.reshape(-1, *data.captions.shape[2:])
    text = embed_text(params, config, captions).mean(axis=0)
    music = embed_music(params, config, data.tokens).mean(axis=0)
    return Embedding(config, params, text, music)


def adherence(text: jax.Array, music: jax.Array) -> jax.Array:
    """Cosine of vectors (N, D) and (N, D), row by row, float32 (N,): MusicLM's cycle consistency.

    What a condition of a text (N, C) has beyond D, its claims, does not count.
    """
    text = text[..., : music.shape[-1]]
    chex.assert_equal_shape([text, music])
    return jnp.sum(l2_normalize(text) * l2_normalize(music), axis=-1)


def recall_at(text: jax.Array, music: jax.Array, k: int) -> jax.Array:
    """Share of texts (N, D) whose own melody, the same row of music (N, D), is among the k nearest of all."""
    chex.assert_equal_shape([text, music])
    return contrastive.recall_at(l2_normalize(text) @ l2_normalize(music).T, k)
