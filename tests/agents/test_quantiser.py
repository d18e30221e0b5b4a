import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.agents import quantiser

VECTORS = jax.random.normal(jax.random.key(0), (200, 6)) * jnp.array([4.0, 2, 1, 1, 1, 1])
BOOKS = quantiser.fit(jax.random.key(1), VECTORS, levels=6, codes=8, iterations=10)


def norms(vectors):
    """Lengths of what is left of vectors after 0, 1, ... levels: (levels + 1, N)."""
    codes = quantiser.quantise(BOOKS, vectors)
    left = [vectors - quantiser.dequantise(BOOKS, codes[:, :n]) for n in range(codes.shape[1] + 1)]
    return np.linalg.norm(np.stack(left), axis=2)


def test_every_level_leaves_less_of_every_vector():
    assert BOOKS.shape == (6, 8, 6)
    for vectors in (VECTORS, 3 * jax.random.normal(jax.random.key(2), (50, 6))):
        assert (np.diff(norms(vectors), axis=0) <= 1e-5).all()
    means = (norms(VECTORS) ** 2).mean(axis=1)
    assert (means[1:] < 0.9 * means[:-1]).all()


def test_sums_of_codes_are_found_again():
    books = jnp.array([[[0.0, 0], [10, 0], [0, 10]], [[0.0, 0], [1, 0], [0, 1]]])
    codes = jnp.array([[1, 2], [2, 1], [0, 0], [2, 0]])
    vectors = quantiser.dequantise(books, codes)
    np.testing.assert_array_equal(vectors, [[10, 1], [1, 10], [0, 0], [0, 10]])
    np.testing.assert_array_equal(quantiser.quantise(books, vectors), codes)
    assert quantiser.quantise(books, vectors).dtype == jnp.int32


def test_clusters_are_found():
    middles = jnp.array([[5.0, 0], [-5, 0], [0, 7]])
    vectors = jnp.repeat(middles, 20, axis=0) + 0.1 * jax.random.normal(jax.random.key(0), (60, 2))
    books = quantiser.fit(jax.random.key(3), vectors, levels=1, codes=8)
    left = vectors - quantiser.dequantise(books, quantiser.quantise(books, vectors))
    assert np.linalg.norm(left, axis=1).max() < 0.5


def test_the_nearest_is_what_the_codes_say():
    found = quantiser.nearest(BOOKS, VECTORS)
    np.testing.assert_array_equal(found, quantiser.dequantise(BOOKS, quantiser.quantise(BOOKS, VECTORS)))
    np.testing.assert_allclose(quantiser.nearest(BOOKS[:1], BOOKS[0]), BOOKS[0], atol=1e-5)


def test_fit_is_a_function_of_its_key():
    again = quantiser.fit(jax.random.key(1), VECTORS, levels=6, codes=8, iterations=10)
    np.testing.assert_array_equal(again, BOOKS)
