import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks.products import product


@pytest.mark.parametrize("width", [3, 7])
def test_a_products_gradients_are_those_of_the_plain_product(width, random, transform):
    shapes = (12, 5), (5, width), (12, width)
    rows, kernel, outer = (random.normal(size=shape).astype("f") for shape in shapes)
    pull = lambda f: lambda rows, kernel, outer: jax.vjp(f, rows, kernel)[1](outer)
    found = transform(pull(product))(rows, kernel, outer)
    expected = outer @ kernel.T, rows.T @ outer
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 8, 40])
def test_a_product_of_many_or_few_rows_is_the_plain_product(count, random, transform):
    rows, kernel = (random.normal(size=shape).astype("f") for shape in ((count, 20), (20, 7000)))
    chex.assert_trees_all_close(transform(product)(rows, kernel), rows @ kernel, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [3, 16])
def test_bfloat16_rounds_operands_and_not_sums(count, random, transform):
    shapes = (count, 300), (300, 5), (count, 5)
    rows, kernel, outer = (random.normal(size=shape).astype("f") for shape in shapes)
    pull = lambda f: lambda *operands: jax.vjp(f, *operands[:2])[1](operands[2])
    rounded = [x.astype(jnp.bfloat16).astype("f") for x in (rows, kernel, outer)]
    with jax.default_matmul_precision("bfloat16"):
        found = transform(product)(rows, kernel), transform(pull(product))(rows, kernel, outer)
    expected = rounded[0] @ rounded[1], (rounded[2] @ rounded[1].T, rounded[0].T @ rounded[2])
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-4)
    assert np.abs(found[0] - rows @ kernel).max() > 1e-3  # it does round
    chex.assert_trees_all_equal_dtypes(found, (outer, (rows, kernel)))
