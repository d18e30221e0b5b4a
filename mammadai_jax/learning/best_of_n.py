"""Best of n: of n melodies written for a prompt, keep the one of the highest score."""

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
) -> tuple[jax.Array, jax.Array]:
    """The best melodies and their scores.

    Args:
        key: consumed.
        n: how many are written for each prompt, one batch after the other; 1 or more.
        sample: key -> tokens (B, T), one melody for each of B prompts.
        score: tokens (B, T) -> (B,).

    Returns:
        Tokens (B, T), scores (B,). ValueError if n is less than 1.

    """
    if n < 1:
        raise ValueError(f"the best of {n} melodies cannot be kept: n is 1 or more")
    shape = jax.eval_shape(sample, key)
    nothing = jnp.zeros(shape.shape, shape.dtype), jnp.full(shape.shape[:1], -jnp.inf)

    def improve(best, key):
        tokens = sample(key)
        scores = score(tokens)
        better = scores > best[1]
        return (jnp.where(better[:, None], tokens, best[0]), jnp.where(better, scores, best[1])), None

    return jax.lax.scan(improve, nothing, jax.random.split(key, n))[0]


def divergence(n: int) -> float:
    """KL in nats of the best of n from what it was chosen of, a prompt: log n - (n - 1) / n.

    Exact if no two scores are equal, an upper bound otherwise (Beirami et al. 2024).
    """
    return math.log(n) - (n - 1) / n
