import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks.lstm import _cell_step, unroll

T, B = 12, 3


@pytest.mark.parametrize("vmapped", [False, True])
def test_written_gradient_equals_the_automatic_one(vmapped, random):
    def automatic(gates, keep, recurrent):
        def advance(carry, now):
            hidden, cell, _ = _cell_step(*carry, *now, recurrent)
            return (hidden, cell), hidden

        zero = jnp.zeros((B, 6))
        return jax.lax.scan(advance, (zero, zero), (gates, keep))[1]

    draw = lambda *shape: random.normal(size=shape).astype(np.float32)
    gates, recurrent, weigh, keep = draw(T, B, 24), draw(6, 24), draw(T, B, 6), np.ones((T, B, 1), np.float32)
    keep[5, 1] = 0.0

    def gradient(function):
        grad = jax.grad(lambda g, w: (function(g, keep, w) * weigh).sum(), argnums=(0, 1))
        if vmapped:
            return jax.jit(jax.vmap(grad))(np.stack([gates, 2 * gates]), np.stack([recurrent, -recurrent]))
        return jax.jit(grad)(gates, recurrent)

    for ours, theirs in zip(gradient(unroll), gradient(automatic), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
