"""A minibatch's gradient, taken of a few melodies at a time: less memory, and on a CPU less time.

What a network of some width computes for thousands of notes fits no CPU's caches, and is read from memory
again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

NOTES = 768  # at a time on a CPU: a gradient by itself takes as long of 384 or 1,536, of 6,144 a quarter more


def divide(rows: Any, steps: int, axis: int = 0) -> Any:
    """The arrays of a tree in parts (M, ...), each of as many melodies of so many steps as are read together.

    `axis` is the melodies'. All are one part but on a CPU.
    """

    def parts(x: jax.Array) -> jax.Array:
        before, melodies, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        count = _count(melodies, steps)
        return jnp.moveaxis(x.reshape(*before, count, melodies // count, *after), axis, 0)

    return jax.tree.map(parts, rows)


def _count(melodies: int, steps: int) -> int:
    """How many parts of equally many melodies."""
    most = max(1, melodies * steps // NOTES) if jax.default_backend() == "cpu" else 1
    return max(count for count in range(1, min(most, melodies) + 1) if melodies % count == 0)


def value_and_grad(loss: Callable, has_aux: bool = True) -> Callable:
    """`jax.value_and_grad` of loss(params, rows), as a function of params and all parts' rows, see `divide`.

    All that is returned is the parts' mean, so what the loss returns has to be a mean over its rows.
    """
    gradient = jax.value_and_grad(loss, has_aux=has_aux)

    def of_all(params: Any, parts: Any) -> Any:
        count = len(jax.tree.leaves(parts)[0])
        first = jax.tree.map(lambda x: x[0], parts)
        if count == 1:
            return gradient(params, first)
        add = lambda total, rows: (jax.tree.map(jnp.add, total, gradient(params, rows)), None)
        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradient, params, first))
        total, _ = jax.lax.scan(add, nothing, parts)
        return jax.tree.map(lambda x: x / count, total)

    return of_all
