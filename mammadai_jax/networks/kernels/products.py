"""Matrix products with weights: the plain form, and the forms that are fastest on a CPU.

Where jax's default precision is bfloat16 (`jax.default_matmul_precision("bfloat16")`), both operands are
rounded to bfloat16 and the sums are float32, on every platform. (TPUs do so by themselves.) Everything else
stays as it is.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

PRECISION = "jax_default_matmul_precision"
BFLOAT16 = ("bfloat16", "BF16_BF16_F32")  # jax's names of the precisions that round operands
FEW_ROWS = 8, 32  # least and most rows of a product that a CPU computes transposed
LARGE_KERNEL = 1 << 17  # numbers of the kernel, for the same


def dot_general(features: jax.Array, kernel: jax.Array, *_, **__) -> jax.Array:
    """`product` with the signature of flax's `dot_general`: features (..., K), kernel (K, M) -> (..., M)."""
    return product(features.reshape(-1, features.shape[-1]), kernel).reshape(*features.shape[:-1], -1)


@jax.custom_vjp
def product(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Rows (N, K) times a kernel (K, M) -> (N, M)."""
    chex.assert_rank([rows, kernel], 2)
    few = FEW_ROWS[0] <= rows.shape[0] <= FEW_ROWS[1] and kernel.size > LARGE_KERNEL
    if rounds_operands() or not few:
        return multiply(rows, kernel)
    return jax.lax.platform_dependent(rows, kernel, cpu=multiply_transposed, default=multiply)


def _product_forward(rows, kernel):
    saved = (rows.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)) if rounds_operands() else (rows, kernel)
    return multiply(rows, kernel), saved


def _product_backward(saved, cotangent):
    rows, kernel = saved
    return gradient_of_rows(cotangent, kernel), gradient_of_kernel(rows, cotangent)


product.defvjp(_product_forward, _product_backward)


def rounds_operands() -> bool:
    """Whether jax's default precision rounds operands to bfloat16."""
    return getattr(jax.config, PRECISION) in BFLOAT16


def multiply(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Rows (N, K) times a kernel (K, M) -> (N, M), in the plain form, with the automatic gradient."""
    chex.assert_rank([rows, kernel], 2)
    return _rounded("nk,km->nm", rows, kernel, rows.dtype) if rounds_operands() else rows @ kernel


def multiply_transposed(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Rows (N, K) times a kernel (K, M) -> (N, M), for a CPU and a kernel far larger than the rows.

    A CPU first rearranges the right operand, so the smaller one should be on the right. XLA would undo the
    transpositions; behind a barrier they stay, and in a loop the kernel, which is a constant there, is
    transposed once, before the loop.
    """
    chex.assert_rank([rows, kernel], 2)
    barrier = jax.lax.optimization_barrier
    return barrier(barrier(kernel.T) @ barrier(rows.T)).T


def gradient_of_rows(cotangent: jax.Array, kernel: jax.Array) -> jax.Array:
    """The gradient (N, K) for the rows, of the product's cotangent (N, M) and the kernel (K, M)."""
    chex.assert_rank([cotangent, kernel], 2)
    if rounds_operands():
        return _rounded("nm,km->nk", cotangent, kernel, cotangent.dtype)
    return cotangent @ kernel.T


def gradient_of_kernel(rows: jax.Array, cotangent: jax.Array) -> jax.Array:
    """The gradient (K, M) for the kernel, of the rows (N, K) and the product's cotangent (N, M)."""
    chex.assert_rank([rows, cotangent], 2)
    plain, cpu = (rounded_plain, rounded_cpu) if rounds_operands() else (kernel_plain, kernel_cpu)
    return jax.lax.platform_dependent(rows, cotangent, cpu=cpu, default=plain)


def kernel_plain(rows: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Rows (N, K), cotangent (N, M) -> the kernel's gradient (K, M)."""
    chex.assert_rank([rows, cotangent], 2)
    return rows.T @ cotangent


def kernel_cpu(rows: jax.Array, cotangent: jax.Array) -> jax.Array:
    """As `kernel_plain`, (K, M), with the narrower operand on the left, transposed if necessary.

    XLA's product on a CPU that contracts both leading axes takes up to twice as long the other way round.
    """
    chex.assert_rank([rows, cotangent], 2)
    if cotangent.shape[1] >= rows.shape[1]:
        return kernel_plain(rows, cotangent)
    return jax.lax.optimization_barrier(cotangent.T @ rows).T


def rounded_plain(rows: jax.Array, cotangent: jax.Array) -> jax.Array:
    """As `kernel_plain`, (K, M), of operands rounded to bfloat16."""
    chex.assert_rank([rows, cotangent], 2)
    return _rounded("nk,nm->km", rows, cotangent, cotangent.dtype)


def rounded_cpu(rows: jax.Array, cotangent: jax.Array) -> jax.Array:
    """As `rounded_plain`, (K, M), with the contracted axis split into two.

    With one contracted axis XLA on a CPU converts bfloat16 operands to float32 first, with two it does not,
    and uses the processor's bfloat16 instructions.
    """
    chex.assert_rank([rows, cotangent], 2)
    parts = 8 if len(rows) % 8 == 0 else 1
    split = lambda x: x.reshape(parts, -1, x.shape[-1])
    return _rounded("abk,abm->km", split(rows), split(cotangent), cotangent.dtype)


def _rounded(subscripts, left, right, dtype):
    left, right = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32).astype(dtype)
