"""Products with weights, in the forms that are quickest on a CPU.

Where jax's default precision is bfloat16 (`jax.default_matmul_precision("bfloat16")`), both operands are
rounded to it and the sums are float32, on every platform; so TPUs do by themselves. All else stays as it is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

PRECISION = "jax_default_matmul_precision"
HALVES = ("bfloat16", "BF16_BF16_F32")  # jax's names of the precision in which operands are rounded


def dot_general(features: jax.Array, kernel: jax.Array, *_, **__) -> jax.Array:
    """As flax's layers ask for a product of features (..., K) with a kernel (K, M)."""
    return product(features.reshape(-1, features.shape[-1]), kernel).reshape(*features.shape[:-1], -1)


@jax.custom_vjp
def product(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Rows (N, K) times a kernel (K, M)."""
    few = 8 <= rows.shape[0] <= 32 and kernel.size > 1 << 17
    if rounds() or not few:
        return multiply(rows, kernel)
    return jax.lax.platform_dependent(rows, kernel, cpu=_product_of_few, default=multiply)


def _product_of_few(rows, kernel):
    """The product on a CPU where the kernel is far larger than the rows.

    A CPU first rearranges the right operand, which had better be the smaller one. What is turned behind a
    barrier stays turned, and the kernel is so only once: a loop's constants are computed before it.
    """
    apart = jax.lax.optimization_barrier
    return apart(apart(kernel.T) @ apart(rows.T)).T


def _product_forward(rows, kernel):
    kept = (rows.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)) if rounds() else (rows, kernel)
    return multiply(rows, kernel), kept


def _product_backward(saved, outer):
    rows, kernel = saved
    return gradient_of_rows(outer, kernel), gradient_of_kernel(rows, outer)


product.defvjp(_product_forward, _product_backward)


def rounds() -> bool:
    """Whether operands are to be rounded to bfloat16."""
    return getattr(jax.config, PRECISION) in HALVES


def multiply(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Rows (N, K) times a kernel (K, M), without a gradient of its own."""
    return _of_halves("nk,km->nm", rows, kernel, rows.dtype) if rounds() else rows @ kernel


def gradient_of_rows(outer: jax.Array, kernel: jax.Array) -> jax.Array:
    """What a loss that varies by outer (N, M) with rows @ kernel varies by with the rows (N, K)."""
    return _of_halves("nm,km->nk", outer, kernel, outer.dtype) if rounds() else outer @ kernel.T


def gradient_of_kernel(rows: jax.Array, outer: jax.Array) -> jax.Array:
    """What a loss that varies by outer (N, M) with rows @ kernel varies by with the kernel (K, M).

    On a CPU the narrower operand is on the left, and the result is turned if it has to be: XLA's product that
    contracts both leading axes takes up to twice as long the other way round. Of bfloat16 operands it makes
    float32 ones again, unless there are two such axes.
    """
    if rounds():
        count = len(rows)
        apart = lambda x: x.reshape(8 if count % 8 == 0 else 1, -1, x.shape[-1])
        return _of_halves("abk,abm->km", apart(rows), apart(outer), outer.dtype)
    plain = lambda rows, outer: rows.T @ outer
    turned = lambda rows, outer: jax.lax.optimization_barrier(outer.T @ rows).T
    cpu = turned if outer.shape[1] < rows.shape[1] else plain
    return jax.lax.platform_dependent(rows, outer, cpu=cpu, default=plain)


def _of_halves(subscripts, left, right, dtype):
    left, right = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32).astype(dtype)
