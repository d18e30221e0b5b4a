import chex
import jax
import jax.numpy as jnp
import pytest

from mammadai_jax.networks.transformer import product


@pytest.mark.parametrize("width", [3, 7])
def test_a_products_gradients_are_those_of_the_plain_product(width, random, transform):
    shapes = (12, 5), (5, width), (12, width)
    rows, kernel, outer = (random.normal(size=shape).astype("f") for shape in shapes)
    pull = lambda f: lambda rows, kernel, outer: jax.vjp(f, rows, kernel)[1](outer)
    found = transform(pull(product))(rows, kernel, outer)
    expected = pull(jnp.matmul)(rows, kernel, outer)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_product_of_many_or_few_rows_is_the_plain_product(count, random, transform):
    rows, kernel = (random.normal(size=shape).astype("f") for shape in ((count, 5), (5, 7)))
    chex.assert_trees_all_close(transform(product)(rows, kernel), rows @ kernel, rtol=1e-5, atol=1e-5)
