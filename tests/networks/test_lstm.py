import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks.lstm import _recur_step, recur

T, B = 36, 3


@pytest.mark.parametrize("vmapped", [False, True])
def test_written_gradient_equals_the_automatic_one(vmapped):
    def automatic(gates, keep, recurrent):
        def advance(carry, now):
            hidden, cell, _ = _recur_step(*carry, *now, recurrent)
            return (hidden, cell), hidden

        zero = jnp.zeros((B, 6))
        return jax.lax.scan(advance, (zero, zero), (gates, keep))[1]

    keys = jax.random.split(jax.random.key(0), 4)
    gates, recurrent = jax.random.normal(keys[0], (T, B, 24)), jax.random.normal(keys[1], (6, 24))
    keep = jnp.ones((T, B, 1)).at[5, 1].set(0.0)
    weigh = jax.random.normal(keys[2], (T, B, 6))

    def gradient(function):
        grad = jax.grad(lambda g, w: (function(g, keep, w) * weigh).sum(), argnums=(0, 1))
        if vmapped:
            return jax.vmap(grad)(jnp.stack([gates, 2 * gates]), jnp.stack([recurrent, -recurrent]))
        return grad(gates, recurrent)

    for ours, theirs in zip(gradient(recur), gradient(automatic), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
