"""Residual vector quantisation: a vector as a few small integers, coarse to fine.

    r_0 = x,   c_l = argmin_c |r_l - e_{l,c}|^2,   r_{l+1} = r_l - e_{l,c_l},   x ~ sum_l e_{l,c_l}

(Zeghidour et al. 2021; MusicLM's twelve MuLan tokens.) The first code of each level is the zero vector, so
that no level increases the error of any vector.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def fit(
    key: jax.Array, vectors: jax.Array, levels: int = 12, codes: int = 64, iterations: int = 20
) -> jax.Array:
    """Codebooks float32 (levels, codes, D) for vectors (N, D): k-means (Lloyd) on each level's residuals."""
    chex.assert_rank(vectors, 2)

    def level(residual, key):
        samples = jax.random.randint(key, (codes,), 0, residual.shape[0])
        book = residual[samples].at[0].set(0.0)
        book, _ = jax.lax.scan(lambda book, _: (_lloyd(book, residual), None), book, length=iterations)
        return residual - book[_nearest_code(book, residual)], book

    return jax.lax.scan(level, vectors, jax.random.split(key, levels))[1]


def _nearest_code(book, residual):
    """The code (N,) of book (codes, D) that is nearest to each residual (N, D)."""
    return jnp.argmin(jnp.sum(book**2, axis=1) - 2.0 * residual @ book.T, axis=1)


def _lloyd(book, residual):
    """Move each code to the mean of the residuals nearest to it; unused codes and the first one stay."""
    member = jax.nn.one_hot(_nearest_code(book, residual), book.shape[0])
    count = member.sum(axis=0)[:, None]
    means = (member.T @ residual) / jnp.maximum(count, 1.0)
    return jnp.where(count > 0, means, book).at[0].set(0.0)


def quantise(codebooks: jax.Array, vectors: jax.Array) -> jax.Array:
    """Codes int32 (N, levels) of vectors (N, D), for codebooks (levels, codes, D)."""
    chex.assert_rank([codebooks, vectors], [3, 2])

    def level(residual, book):
        code = _nearest_code(book, residual)
        return residual - book[code], code

    return jax.lax.scan(level, vectors, codebooks)[1].T.astype(jnp.int32)


def dequantise(codebooks: jax.Array, codes: jax.Array) -> jax.Array:
    """Vectors (N, D) of codes int (N, L) of the first L levels, coarser for fewer; not normalised."""
    chex.assert_rank([codebooks, codes], [3, 2])
    levels = codebooks[: codes.shape[1]]
    return jax.vmap(lambda book, code: book[code], (0, 1))(levels, codes).sum(axis=0)


def reconstruct(codebooks: jax.Array, vectors: jax.Array) -> jax.Array:
    """Vectors (N, D) quantised and dequantised: float32 (N, D), not normalised."""
    chex.assert_rank([codebooks, vectors], [3, 2])
    return dequantise(codebooks, quantise(codebooks, vectors))
