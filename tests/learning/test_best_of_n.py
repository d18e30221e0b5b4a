import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.learning import best_of_n


@pytest.mark.parametrize("n", [1, 4, 16])
def test_divergence_of_the_best_against_simulation(n):
    values, prompts = 10_000, 20_000
    sample = lambda key: jax.random.randint(key, (prompts, 1), 0, values)
    score = lambda tokens: 3.0 * tokens[:, 0]
    best, scores, _ = jax.jit(lambda key: best_of_n.best_of_n(key, n, sample, score))(jax.random.key(0))
    best, scores = np.asarray(best), np.asarray(scores)
    np.testing.assert_array_equal(scores, 3.0 * best[:, 0])
    # P(best = k) = (F_k)^n - (F_{k-1})^n, against 1 / values
    k = best[:, 0].astype(np.float64)
    ratio = values * (((k + 1) / values) ** n - (k / values) ** n)
    assert best_of_n.divergence(n) == pytest.approx(np.log(ratio).mean(), abs=0.04)


def test_the_best_of_each_prompt_is_kept():
    sample = lambda key: jax.random.randint(key, (5, 3), 0, 50)
    score = lambda tokens: tokens.sum(axis=1)
    best, scores, means = jax.jit(lambda key: best_of_n.best_of_n(key, 6, sample, score))(jax.random.key(1))
    every = np.asarray(jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(1), 6)))
    np.testing.assert_array_equal(scores, every.sum(axis=2).max(axis=0))
    np.testing.assert_allclose(means, every.sum(axis=2).mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(best, every[every.sum(axis=2).argmax(axis=0), np.arange(5)])
    assert jnp.issubdtype(best.dtype, jnp.integer)
    with pytest.raises(ValueError, match="n is 1 or more"):
        best_of_n.best_of_n(jax.random.key(0), 0, sample, score)
