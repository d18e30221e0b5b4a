# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""The joint embedding of captions and melodies (MuLan's role; the loss is CLIP's, Radford et al. 2021).

    L = 1/2 mean_i [ -log softmax_j(s t_i.m_j)_i - log softmax_j(s t_j.m_i)_i ],   s = exp(log scale) <= 100

Melodies of one group (variants of a tune, other excerpts of it) are not held against each other. Text and
music end up in two cones (the modality gap, Liang et al. 2022), which the loss does not mind but a composer
that is trained on one and prompted with the other does: `finish` measures the centres, and an `Embedding`
takes them away.

Captions are arrays (N, K, ...) that only `text_tower` looks into: words as numbers, or vectors of a frozen
sentence encoder.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.agents import prior
from mammadai_jax.agents.prior import State
from mammadai_jax.fields import static, traced
from mammadai_jax.learning import collectives
from mammadai_jax.networks.towers import EMBEDDING_DIM, MusicTower, SentenceTower, TextTower, l2_normalize
from mammadai_jax.networks.transformer import MASKED

CHUNK = 256  # rows embedded at a time


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
        num_updates: updates until the learning rate has fallen to zero.
        learning_rate: step size of the optimiser; its peak.
        lr_warmup_steps: updates in which the learning rate rises.
        weight_decay: coefficient of AdamW's weight decay; of matrices only.
        max_grad_norm: largest global norm of the gradient.
        ema_decay: decay of the moving average of the parameters; the finished embedding uses the average.
        initial_temperature: 1 / s at the start of training.

    """

    vocab_size: int = static(2048, low=3, high=2**20)
    trigram_buckets: int = static(2048, low=2, high=2**20)
    text_width: int = static(96, low=1)
    text_heads: int = static(4, low=1)
    music_width: int = static(64, low=1)
    kernel_sizes: tuple[int, ...] = static((8, 6, 6), low=1)
    strides: tuple[int, ...] = static((4, 2, 2), low=1)
    use_traits: bool = static(True)
    embedding_dim: int = static(EMBEDDING_DIM, low=1)
    dropout: float = static(0.1, low=0, high=0.99)
    batch_size: int = static(128, low=1)
    num_updates: int = traced(800, low=1, unit="updates")
    learning_rate: float = traced(2e-3, low=0)
    lr_warmup_steps: int = traced(50, low=0, unit="updates")
    weight_decay: float = traced(0.05, low=0)
    max_grad_norm: float = traced(1.0, low=0)
    ema_decay: float = traced(0.99, low=0, high=1)
    initial_temperature: float = traced(0.07, low=0.001, high=1000)


@struct.dataclass
class Data:
    """Excerpts and what is said about them.

    Attributes:
        tokens: int32 (N, T), from the start of a bar.
        captions: several of each excerpt, encoded: int32 (N, K, W, 1 + G), or float32 (N, K, E), vectors.
        group: int (N,), equal for excerpts of one tune and its variants.

    """

    tokens: jax.Array
    captions: jax.Array
    group: jax.Array


@struct.dataclass
class Embedding:
    """A finished embedding, in which a text's vector can stand in for its music's.

    Attributes:
        config: of the towers.
        params: of both.
        text_centre, music_centre: mean vectors of the training data, (dimensions,).

    """

    config: Config
    params: Any
    text_centre: jax.Array
    music_centre: jax.Array

    def text(self, ids: jax.Array) -> jax.Array:
        """Encoded texts (N, ...) -> unit length, centred: float32 (N, dimensions). Any N, under jit too."""
        return l2_normalize(embed_text(self.params, self.config, ids) - self.text_centre)

    def music(self, tokens: jax.Array) -> jax.Array:
        """Tokens int (N, T) -> unit length, centred: float32 (N, dimensions). Any N, under jit too."""
        return l2_normalize(embed_music(self.params, self.config, tokens) - self.music_centre)


def text_tower(config: Config, captions: jax.Array) -> nn.Module:
    """The network that reads such captions: words as whole numbers, or vectors."""
    width, dropout, dimensions = config.text_width, config.dropout, config.embedding_dim
    if jnp.issubdtype(captions.dtype, jnp.floating):
        return SentenceTower(width, dropout, dimensions)
    return TextTower(config.vocab_size, config.trigram_buckets, width, config.text_heads, dropout, dimensions)


def music_tower(config: Config) -> nn.Module:
    """The network that reads melodies."""
    shared = {
        name: getattr(config, name)
        for name in ("kernel_sizes", "strides", "use_traits", "dropout", "embedding_dim")
    }
    return MusicTower(width=config.music_width, **shared)


def init(key: jax.Array, config: Config, data: Data) -> State:
    """A fresh learner for data of this shape."""
    key, key_text, key_music = jax.random.split(key, 3)
    params = {
        "text": text_tower(config, data.captions).init(key_text, data.captions[:1, 0]),
        "music": music_tower(config).init(key_music, data.tokens[:1]),
        "log_scale": -jnp.log(jnp.float32(config.initial_temperature)),
    }
    opt_state = prior.optimiser(config).init(params)
    return State(params, jax.tree.map(jnp.copy, params), opt_state, jnp.int32(0), key)


def contrast(logits: jax.Array, group: jax.Array) -> jax.Array:
    """Symmetric InfoNCE of logits (B, B), pairs on the diagonal: a scalar, in nats.

    Off the diagonal, rows and columns of one group (B,) are left out: they are no mismatches.
    """
    chex.assert_rank([logits, group], [2, 1])
    same = (group[:, None] == group[None, :]) & ~jnp.eye(len(group), dtype=bool)
    logits = jnp.where(same, MASKED, logits)
    text = jnp.diagonal(jax.nn.log_softmax(logits, axis=1))
    music = jnp.diagonal(jax.nn.log_softmax(logits, axis=0))
    return -0.5 * (text + music).mean()


def embed(params: Any, config: Config, batch: Data, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Text and music of a batch with one caption each (captions (B, ...)), under dropout: (B, dimensions)."""
    key_text, key_music = jax.random.split(key)
    tower = text_tower(config, batch.captions)
    text = tower.apply(params["text"], batch.captions, False, rngs={"dropout": key_text})
    music = music_tower(config).apply(params["music"], batch.tokens, False, rngs={"dropout": key_music})
    return text, music


class Everybody(NamedTuple):
    """Text, music (S * B, dimensions) and group of all shards' batches, and where one's own rows begin."""

    text: jax.Array
    music: jax.Array
    group: jax.Array
    begin: jax.Array

    def among(self, own: jax.Array, rows: jax.Array) -> jax.Array:
        """All rows, of which one's own have S times the gradient: the shards' mean is then that of all."""
        times = len(rows) // len(own)
        own = own + (times - 1) * (own - jax.lax.stop_gradient(own))
        return jax.lax.dynamic_update_slice_in_dim(rows, own, self.begin, 0)


def loss(
    params: Any, config: Config, batch: Data, key: jax.Array, everybody: Everybody | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """InfoNCE of a batch, among all shards' batches if there are several -> loss, metrics; see `embed`."""
    text, music = embed(params, config, batch, key)
    group = batch.group
    if everybody is not None:
        text, music = everybody.among(text, everybody.text), everybody.among(music, everybody.music)
        group = everybody.group
    cosine = text @ music.T
    scale = jnp.exp(params["log_scale"])
    found = cosine.argmax(axis=1) == jnp.arange(len(cosine))
    metrics = {"accuracy": found.mean(), "cosine": jnp.diagonal(cosine).mean(), "scale": scale}
    return contrast(scale * cosine, group), metrics


def draw(key: jax.Array, data: Data, batch: int) -> Data:
    """A minibatch: excerpts at random, one caption of each at random."""
    key_row, key_caption = jax.random.split(key)
    rows = jax.random.randint(key_row, (batch,), 0, data.tokens.shape[0])
    which = jax.random.randint(key_caption, (batch,), 0, data.captions.shape[1])
    return Data(data.tokens[rows], data.captions[rows, which], data.group[rows])


def step(state: State, config: Config, data: Data) -> tuple[State, dict[str, jax.Array]]:
    """One update. Metrics: loss (nats), accuracy in the batch, cosine of pairs, scale, gradient norm."""
    key, key_draw, key_drop = jax.random.split(state.key, 3)
    batch = draw(key_draw, data, config.batch_size)
    known = state.params, config, batch, key_drop
    (nats, metrics), gradient = collectives.value_and_grad(loss)(*known, _everybody(*known))
    updates, opt_state = prior.optimiser(config).update(gradient, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    params["log_scale"] = jnp.clip(params["log_scale"], 0.0, math.log(100.0))
    # early on the average follows quickly, so that the initial parameters do not linger in it
    decay = jnp.minimum(config.ema_decay, (1.0 + state.update) / (10.0 + state.update))
    average = optax.incremental_update(params, state.average, 1.0 - decay)
    metrics = {"loss": nats, **metrics, "grad_norm": optax.tree.norm(gradient)}
    return State(params, average, opt_state, state.update + 1, key), metrics


def _everybody(params: Any, config: Config, batch: Data, key: jax.Array) -> Everybody | None:
    """What a batch is held against if there are several shards."""
    if collectives.count() == 1:
        return None
    own = (*collectives.each(embed, params, config, batch, key), batch.group)
    return Everybody(*map(collectives.gather, own), begin=collectives.index() * len(batch.group))


@jax.jit
def embed_text(params: Any, config: Config, ids: jax.Array) -> jax.Array:
    """Encoded texts (N, ...) -> unit length, as the tower gives them: float32 (N, dimensions)."""
    return _in_chunks(lambda rows: text_tower(config, rows).apply(params["text"], rows), ids)


@jax.jit
def embed_music(params: Any, config: Config, tokens: jax.Array) -> jax.Array:
    """Tokens int (N, T) -> unit length, as the tower gives them: float32 (N, dimensions)."""
    return _in_chunks(lambda rows: music_tower(config).apply(params["music"], rows), tokens)


def _in_chunks(function, rows):
    """A function of rows (N, ...), called on CHUNK of them at a time."""
    if len(rows) <= CHUNK:
        return function(rows)
    whole = len(rows) // CHUNK * CHUNK
    parts = jax.lax.map(function, rows[:whole].reshape(-1, CHUNK, *rows.shape[1:]))
    parts = parts.reshape(whole, *parts.shape[2:])
    return jnp.concatenate([parts, function(rows[whole:])]) if whole < len(rows) else parts


def finish(state: State, config: Config, data: Data) -> Embedding:
    """The averaged towers, with the centres of the data they learned from."""
    captions = data.captions.reshape(-1, *data.captions.shape[2:])
    text = embed_text(state.average, config, captions).mean(axis=0)
    music = embed_music(state.average, config, data.tokens).mean(axis=0)
    return Embedding(config, state.average, text, music)


def adherence(text: jax.Array, music: jax.Array) -> jax.Array:
    """Cosine (N,) of vectors (N, D) and (N, D) in [-1, 1]: MusicLM's cycle consistency, row by row."""
    chex.assert_equal_shape([text, music])
    return jnp.sum(l2_normalize(text) * l2_normalize(music), axis=-1)


def recall_at(text: jax.Array, music: jax.Array, k: int) -> jax.Array:
    """Share of texts (N, D) whose own melody, music (N, D) row by row, is among the k nearest of all.

    Ties count as half in front, so that vectors which are all the same find nothing.
    """
    chex.assert_equal_shape([text, music])
    scores = l2_normalize(text) @ l2_normalize(music).T
    own = jnp.diagonal(scores)[:, None]
    ahead = (scores > own).sum(axis=1) + 0.5 * ((scores == own).sum(axis=1) - 1)
    return (ahead < k).mean()
