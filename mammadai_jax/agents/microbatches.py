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


def divide(melodies: int, steps: int) -> jax.Array:
    """Indices int32 (M, melodies / M) of the melodies that are read together; all of them but on a CPU."""
    most = max(1, melodies * steps // NOTES) if jax.default_backend() == "cpu" else 1
    count = max(count for count in range(1, min(most, melodies) + 1) if melodies % count == 0)
    return jnp.arange(melodies).reshape(count, -1)


def value_and_grad(loss: Callable, has_aux: bool = True) -> Callable:
    """`jax.value_and_grad` of loss(params, rows), as a function of params and the rows (M, N) of all parts.

    All that is returned is the parts' mean, so what the loss returns has to be a mean over its rows.
    """
    gradient = jax.value_and_grad(loss, has_aux=has_aux)

    def of_all(params: Any, parts: jax.Array) -> Any:
        if len(parts) == 1:
            return gradient(params, parts[0])
        add = lambda total, rows: (jax.tree.map(jnp.add, total, gradient(params, rows)), None)
        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradient, params, parts[0]))
        total, _ = jax.lax.scan(add, nothing, parts)
        return jax.tree.map(lambda x: x / len(parts), total)

    return of_all
