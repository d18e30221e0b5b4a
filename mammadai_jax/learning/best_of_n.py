"""Best of n: sample n melodies for a prompt and keep the one with the highest score."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


def best_of_n(
    key: jax.Array,
    n: int,
    sample: Callable[[jax.Array], jax.Array],
    score: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best melodies, their scores, and the mean of all scores.

    Args:
        key: consumed.
        n: number of melodies for each prompt, sampled one batch after another; 1 or more.
        sample: key -> tokens (B, T), one melody for each of B prompts.
        score: tokens (B, T) -> (B,).

    Returns:
        Tokens (B, T), scores (B,), means (B,). ValueError if n is less than 1.

    """
    if n < 1:
        raise ValueError(f"the best of {n} melodies cannot be kept: n is 1 or more")
    shape = jax.eval_shape(sample, key)
    start = jnp.zeros(shape.shape, shape.dtype), jnp.full(shape.shape[:1], -jnp.inf)

    def improve(best, key):
        tokens = sample(key)
        scores = score(tokens)
        better = scores > best[1]
        return (jnp.where(better[:, None], tokens, best[0]), jnp.where(better, scores, best[1])), scores

    (tokens, best), scores = jax.lax.scan(improve, start, jax.random.split(key, n))
    return tokens, best, scores.mean(axis=0)


def divergence(n: int) -> float:
    """KL divergence of the best of n from the distribution of a single sample, in nats: log n - (n - 1) / n.

    It is exact if no two scores are equal, an upper bound otherwise (Beirami et al. 2024).
    """
    return math.log(n) - (n - 1) / n
