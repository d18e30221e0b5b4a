import jax
import numpy as np

from mammadai_jax.networks import quantiser

fit = jax.jit(quantiser.fit, static_argnames=("levels", "codes", "iterations"))
quantise, dequantise, reconstruct = map(
    jax.jit, (quantiser.quantise, quantiser.dequantise, quantiser.reconstruct)
)
RANDOM = np.random.default_rng(0)
VECTORS = (RANDOM.normal(size=(200, 6)) * [4, 2, 1, 1, 1, 1]).astype(np.float32)
BOOKS = np.asarray(fit(jax.random.key(1), VECTORS, levels=6, codes=8, iterations=10))


def told(books, codes):
    """The sum of the codes' vectors after 0, 1, ... levels: (levels + 1, N, D)."""
    each = np.stack([book[code] for book, code in zip(books, codes.T, strict=True)])
    return np.concatenate([np.zeros_like(each[:1]), np.cumsum(each, axis=0)])


def norms(vectors):
    """Lengths of what is left of vectors after 0, 1, ... levels: (levels + 1, N)."""
    codes = np.asarray(quantise(BOOKS, vectors))
    np.testing.assert_allclose(dequantise(BOOKS, codes[:, :4]), told(BOOKS, codes)[4], atol=1e-5)
    return np.linalg.norm(vectors - told(BOOKS, codes), axis=2)


def test_every_level_leaves_less_of_every_vector():
    assert BOOKS.shape == (6, 8, 6)
    for vectors in (VECTORS, 3 * RANDOM.normal(size=(200, 6)).astype(np.float32)):
        assert (np.diff(norms(vectors), axis=0) <= 1e-5).all()
    means = (norms(VECTORS) ** 2).mean(axis=1)
    assert (means[1:] < 0.9 * means[:-1]).all()


def test_sums_of_codes_are_found_again():
    books = np.array([[[0, 0], [10, 0], [0, 10]], [[0, 0], [1, 0], [0, 1]]], np.float32)
    codes = np.array([[1, 2], [2, 1], [0, 0], [2, 0]])
    vectors = dequantise(books, codes)
    np.testing.assert_array_equal(vectors, [[10, 1], [1, 10], [0, 0], [0, 10]])
    found = quantise(books, vectors)
    np.testing.assert_array_equal(found, codes)
    assert found.dtype == np.int32


def test_clusters_are_found():
    middles = np.array([[5, 0], [-5, 0], [0, 7]], np.float32)
    vectors = np.repeat(middles, 20, axis=0) + 0.1 * RANDOM.normal(size=(60, 2)).astype(np.float32)
    books = fit(jax.random.key(3), vectors, levels=1, codes=8)
    left = vectors - reconstruct(books, vectors)
    assert np.linalg.norm(left, axis=1).max() < 0.5
    np.testing.assert_array_equal(books[0, 0], 0)
    # every code that is used is the mean of what is nearest to it
    codes = np.asarray(quantise(books, vectors))[:, 0]
    for code in set(codes) - {0}:
        np.testing.assert_allclose(books[0, code], vectors[codes == code].mean(axis=0), atol=1e-5)


def test_the_nearest_is_what_the_codes_say():
    expected = told(BOOKS, np.asarray(quantise(BOOKS, VECTORS)))[-1]
    np.testing.assert_allclose(reconstruct(BOOKS, VECTORS), expected, atol=1e-5)
    np.testing.assert_allclose(reconstruct(BOOKS[:1], BOOKS[0]), BOOKS[0], atol=1e-5)


def test_fit_is_a_function_of_its_key():
    again = fit(jax.random.key(1), VECTORS, levels=6, codes=8, iterations=10)
    np.testing.assert_array_equal(again, BOOKS)
    assert (fit(jax.random.key(2), VECTORS, levels=6, codes=8, iterations=10) != BOOKS).any()
