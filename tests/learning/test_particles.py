import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.learning.particles import effective_size, log_mean, systematic, traced_back


def test_the_effective_size_of_equal_and_of_single_weights(transform):
    rows = jnp.array([[0.0, 0.0, 0.0, 0.0], [0.0, -1e30, -1e30, -1e30], [5.0, 5.0, -1e30, -1e30]])
    np.testing.assert_allclose(transform(effective_size)(rows), [4, 1, 2], rtol=1e-6)


def test_the_mean_of_weights():
    np.testing.assert_allclose(log_mean(jnp.log(jnp.array([1.0, 2.0, 3.0]))), np.log(2), rtol=1e-6)


@pytest.mark.parametrize("weights", [[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0], [0.3, 0.3, 0.1, 0.3]])
def test_a_particle_has_as_many_descendants_as_its_weight_rounded_down_or_up(weights):
    keys = jax.random.split(jax.random.key(0), 500)
    drawn = jax.vmap(lambda key: systematic(key, jnp.log(jnp.array(weights))))(keys)
    counts = np.stack([np.bincount(row, minlength=4) for row in np.asarray(drawn)])
    exact = 4 * np.array(weights)
    assert (counts >= np.floor(exact - 1e-5)).all() and (counts <= np.ceil(exact + 1e-5)).all()
    np.testing.assert_allclose(counts.mean(axis=0), exact, atol=0.1)


def test_what_a_particle_decided_is_that_of_its_ancestors():
    decided = np.arange(3 * 1 * 1 * 2).reshape(3, 1, 1, 2)  # frames, voices, pieces, particles
    ancestors = np.array([[[0, 0]], [[1, 0]], [[1, 1]]])
    # the last frame's particle 0 comes from 1 there, which comes from 0 in frame 1, and that from 0
    np.testing.assert_array_equal(traced_back(decided, ancestors, np.array([0])), [[[0], [2], [5]]])
