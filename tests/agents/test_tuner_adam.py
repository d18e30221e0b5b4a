"""Adam with one division a parameter is optax's Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mammadai_jax.agents.tuner.adam import scale_by_adam


def steps(adam, gradients):
    """What Adam makes of gradients (N, ...), one after another, and the moments it ends with."""

    def update(state, gradient):
        step, state = adam.update(gradient, state)
        return state, step

    state, found = jax.lax.scan(update, adam.init(jax.tree.map(lambda x: x[0], gradients)), gradients)
    return found, state


@pytest.mark.parametrize("settings", [{}, {"b1": 0.5, "b2": 0.9, "eps": 1e-3}], ids=["default", "other"])
@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-8, 1.0, 1e6])
def test_it_steps_as_optax_does(transform, random, size, settings):
    gradients = (size * random.normal(size=(3, 40, 7))).astype(np.float32)  # of three learners
    ours = transform(lambda x: steps(scale_by_adam(**settings), x)[0])(gradients)
    theirs = transform(lambda x: steps(optax.scale_by_adam(**settings), x)[0])(gradients)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)
    assert size == 0.0 or np.abs(theirs).max() > 1e-7


def test_a_state_of_optax_is_one_of_ours(random):
    gradients = {"kernel": jnp.asarray(random.normal(size=(5, 3, 2))), "bias": jnp.ones((5, 2))}
    (_, ours), (_, theirs) = steps(scale_by_adam(), gradients), steps(optax.scale_by_adam(), gradients)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
