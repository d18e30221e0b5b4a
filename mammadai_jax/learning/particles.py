"""Particles of sequential Monte Carlo over pieces of several voices: what each has decided, and its weight.

`harmonise` has the equations. N particles of each of G pieces are B = G N rows, one piece after another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music import harmony


class Rows(NamedTuple):
    """Partial pieces, (B, ...).

    Attributes:
        carry: of the network.
        piece: what the rules need of all frames.
        beats: what they need of the frames on beats.
        token: the last decision, int32 (B,).
        log_prob: of the free decisions under the distributions that they were drawn from, float32 (B,).
        log_target: log p of all decisions, and the rules' rewards, float32 (B,).

    """

    carry: Any
    piece: harmony.State
    beats: harmony.State
    token: jax.Array
    log_prob: jax.Array
    log_target: jax.Array


class Particles(NamedTuple):
    """Partial pieces with their weights.

    Attributes:
        rows: see there.
        log_weight: float32 (G, N), since particles were last drawn anew.
        log_evidence: float32 (G,), the sum of the logarithms of the mean weights at those times.

    """

    rows: Any
    log_weight: jax.Array
    log_evidence: jax.Array

    @property
    def time(self) -> jax.Array:
        """Decisions so far, int32 ()."""
        return self.rows.piece.time[0]

    @property
    def evidence(self) -> jax.Array:
        """The logarithm of the estimate of the target's sum, float32 (G,)."""
        return self.log_evidence + log_mean(self.log_weight)


def log_mean(log_weight: jax.Array) -> jax.Array:
    """The logarithm of the mean of weights, of log-weights (..., N): (...)."""
    return jax.nn.logsumexp(log_weight, axis=-1) - jnp.log(log_weight.shape[-1])


def effective_size(log_weight: jax.Array) -> jax.Array:
    """The effective sample size 1 / sum of squared normalised weights, of log-weights (..., N): (...)."""
    return 1 / (jax.nn.softmax(log_weight, axis=-1) ** 2).sum(axis=-1)


def systematic(key: jax.Array, log_weight: jax.Array) -> jax.Array:
    """Ancestors int32 (N,) of N particles, drawn by their log-weights (N,).

    Systematic resampling (Kitagawa 1996): one random number shifts N equally spaced points in the cumulative
    weights, so that a particle of weight w has floor(N w) or ceil(N w) descendants, N w on average.
    """
    chex.assert_rank(log_weight, 1)
    count = log_weight.shape[0]
    cumulative = jnp.cumsum(jax.nn.softmax(log_weight))
    points = (jax.random.uniform(key) + jnp.arange(count)) / count * cumulative[-1]
    return jnp.minimum(jnp.searchsorted(cumulative, points, side="right"), count - 1).astype(jnp.int32)


def drawn_anew(keys: jax.Array, particles: Particles, ess_fraction: jax.Array) -> tuple[Particles, jax.Array]:
    """Draw the particles of a piece anew if their effective size is below that share of them.

    Args:
        keys: (G,), consumed.
        particles: (G, N).
        ess_fraction: ().

    Returns:
        The particles, and ancestors int32 (G, N): the place of each among those of before.

    """
    chex.assert_rank([keys, ess_fraction], [1, 0])
    groups, count = particles.log_weight.shape
    is_small = effective_size(particles.log_weight) < ess_fraction * count
    ancestors = jax.vmap(systematic)(keys, particles.log_weight)
    ancestors = jnp.where(is_small[:, None], ancestors, jnp.arange(count))

    def draw(particles: Particles) -> Particles:
        places = (count * jnp.arange(groups)[:, None] + ancestors).reshape(-1)
        rows = jax.tree.map(lambda x: x[places], particles.rows)
        log_weight = jnp.where(is_small[:, None], 0.0, particles.log_weight)
        mean = jnp.where(is_small, log_mean(particles.log_weight), 0.0)
        return Particles(rows, log_weight, particles.log_evidence + mean)

    return jax.lax.cond(is_small.any(), draw, lambda particles: particles, particles), ancestors


def traced_back(decided: np.ndarray, ancestors: np.ndarray, last: np.ndarray) -> np.ndarray:
    """What particles decided, frame by frame.

    Args:
        decided: int32 (T, V, G, N), by place in the frame of its decision.
        ancestors: int32 (T, G, N), after each frame, see `drawn_anew`.
        last: int (G,), the places of the particles after the last frame.

    Returns:
        Decisions int32 (G, T, V).

    """
    groups, place = np.arange(decided.shape[2]), np.asarray(last)
    frames = []
    for tokens, before in zip(decided[::-1], ancestors[::-1], strict=True):
        place = before[groups, place]
        frames.append(tokens[:, groups, place].T)
    return np.stack(frames[::-1], axis=1)


def by_piece(function: Callable[..., Any], keys: jax.Array, values: jax.Array) -> Any:
    """A function (key, (N, ...)) of each piece's own key (G,) and its rows of values (G N, ...), as rows."""
    chex.assert_rank(keys, 1)
    parts = values.reshape(len(keys), -1, *values.shape[1:])
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), jax.vmap(function)(keys, parts))
