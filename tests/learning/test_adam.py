"""Adam with one division a parameter is optax's Adam."""

import jax
import numpy as np
import optax
import pytest

from mammadai_jax.learning.adam import clipped_adam, scale_by_adam
from tests.agents.probes import compiled


def steps(adam, gradients):
    """What Adam makes of gradients (N, ...), one after another, and the moments it ends with."""

    def update(state, gradient):
        step, state = adam.update(gradient, state)
        return state, step

    state, found = jax.lax.scan(update, adam.init(jax.tree.map(lambda x: x[0], gradients)), gradients)
    return found, state


SIZES = np.array([0.0, 1e-9, 1e-8, 1.0, 1e6], np.float32)


@pytest.mark.parametrize("settings", [{}, {"b1": 0.5, "b2": 0.9, "eps": 1e-3}], ids=["default", "other"])
def test_it_steps_as_optax_does(random, settings):
    gradients = SIZES[:, None] * random.normal(size=(40, 5, 7)).astype(np.float32)  # of five learners
    ours = compiled(lambda x: steps(scale_by_adam(**settings), x)[0])(gradients)
    theirs = jax.jit(lambda x: steps(optax.scale_by_adam(**settings), x)[0])(gradients)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)
    assert (np.abs(theirs).max(axis=(0, 2)) > 1e-7).tolist() == [False, True, True, True, True]


def test_a_state_of_optax_is_one_of_ours(random):
    gradients = {"kernel": random.normal(size=(5, 3, 2)).astype("f"), "bias": np.ones((5, 2), "f")}
    both = jax.jit(lambda x: [steps(adam, x)[1] for adam in (scale_by_adam(), optax.scale_by_adam())])
    ours, theirs = both(gradients)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_the_step_size_stays_without_a_decay():
    ones = np.ones((22, 1, 1), np.float32)  # Adam's step of a constant gradient is its step size
    found = compiled(lambda x: steps(clipped_adam(0.1, 1e9, 0), x)[0])(ones)
    np.testing.assert_allclose(found, -0.1, rtol=1e-4)
