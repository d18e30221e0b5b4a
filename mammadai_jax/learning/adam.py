"""Adam with one division for each parameter.

The published learners have small networks and update them every five notes. Adam then takes a large part of
the time, and on a CPU mostly for dividing both moments by their bias corrections, parameter by parameter. The
corrections are scalars, and can be divided by each other first:

    (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + eps)  =  s m / (sqrt(v) + eps u),
    u = sqrt(1 - b2^n),   s = u / (1 - b1^n)

(Kingma and Ba 2015, at the end of section 2.)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def scale_by_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """The same as optax.scale_by_adam except for rounding, with the same state."""

    def update(updates, state, params=None):
        del params
        mean = optax.tree.update_moment(updates, state.mu, b1, 1)
        square = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        count = optax.safe_increment(state.count)
        unbiased = jnp.sqrt(1.0 - b2**count)
        scale = unbiased / (1.0 - b1**count)
        step = lambda m, v: scale * m / (jnp.sqrt(v) + eps * unbiased)
        return jax.tree.map(step, mean, square), optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2, eps).init, update)


def clip_each_array(max_norm: float | jax.Array) -> optax.GradientTransformation:
    """Scale the gradient of each parameter array (..., N) to a norm of at most `max_norm`."""

    def clip(gradient):
        # rows are summed by a product, which is faster than XLA's reduction on a CPU
        norm = jnp.sqrt((jnp.square(gradient) @ jnp.ones(gradient.shape[-1])).sum())
        return gradient * jnp.minimum(1.0, max_norm / jnp.maximum(norm, 1e-12))

    return optax.stateless(lambda updates, _: jax.tree.map(clip, updates))


def clipped_adam(
    learning_rate: float | jax.Array, max_norm: float | jax.Array, decay_steps: int | jax.Array
) -> optax.GradientTransformation:
    """Adam behind a clip of the gradient norm of each array (..., N).

    The step size falls linearly to zero in the second half of `decay_steps` steps; it stays if they are 0.
    """

    def rate(count):
        done = count / jnp.maximum(1, decay_steps)
        decay = jnp.where(decay_steps > 0, jnp.clip(2.0 - 2.0 * done, 0.0, 1.0), 1.0)
        return learning_rate * decay

    return optax.chain(clip_each_array(max_norm), scale_by_adam(), optax.scale_by_learning_rate(rate))
