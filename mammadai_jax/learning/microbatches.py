"""Gradient accumulation: a minibatch's gradient as the mean over microbatches of a few melodies each.

On a CPU this takes less time and less memory: the activations of thousands of notes do not fit into the
caches and would be read from memory again in the backward pass. Other processors take the whole minibatch at
once. The choice is made for the platform that a program is lowered for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

NOTES = 768  # in a microbatch: with 384 or 1,536 a gradient takes as long, with 6,144 a quarter longer


def value_and_grad(loss: Callable, has_aux: bool = True, *, num_steps: int, axes: Any = 0) -> Callable:
    """`jax.value_and_grad` of loss(params, rows) or loss(params, rows, key), on a CPU over microbatches.

    What the loss returns has to be a mean over its rows, for the result is the microbatches' mean. Each
    microbatch has a key of its own.

    Args:
        loss: as for `jax.value_and_grad`.
        has_aux: likewise.
        num_steps: notes of a melody.
        axes: the axis of the melodies in each array of the rows, a prefix of their tree as vmap's `in_axes`.

    Returns:
        A function of params, rows and optionally a key.

    """
    whole = jax.value_and_grad(loss, has_aux=has_aux)

    def accumulated(params, rows, *key):
        parts = _divide(rows, axes, num_steps)
        keys = (jax.random.split(k, _length(parts)) for k in key)
        return _mean(lambda part: whole(params, *part), (parts, *keys))

    def gradient(params, rows, *key):
        if _length(_divide(rows, axes, num_steps)) == 1:
            return whole(params, rows, *key)
        return jax.lax.platform_dependent(params, rows, *key, cpu=accumulated, default=whole)

    return gradient


def _divide(rows: Any, axes: Any, num_steps: int) -> Any:
    """The arrays (..., B, ...) of a tree as microbatches (M, ..., B / M, ...)."""

    def parts(x: jax.Array, axis: int) -> jax.Array:
        before, melodies, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        count = num_microbatches(melodies, num_steps)
        return jnp.moveaxis(x.reshape(*before, count, melodies // count, *after), axis, 0)

    return jax.tree.map(lambda axis, tree: jax.tree.map(lambda x: parts(x, axis), tree), axes, rows)


def num_microbatches(melodies: int, num_steps: int) -> int:
    """The largest divisor of the number of melodies that leaves about `NOTES` notes or more to each part."""
    most = max(1, melodies * num_steps // NOTES)
    return max(count for count in range(1, min(most, melodies) + 1) if melodies % count == 0)


def _mean(function: Callable, parts: Any) -> Any:
    """The mean of function(part) over parts (M, ...), taken one after another."""
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts)))
    add = lambda total, part: (jax.tree.map(jnp.add, total, function(part)), None)
    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda x: x / _length(parts), total)


def _length(tree: Any) -> int:
    return len(jax.tree.leaves(tree)[0])
