import chex
import jax
import jax.numpy as jnp

from mammadai_jax.networks.transformer import product


def test_a_products_gradients_are_those_of_the_plain_product(random, transform):
    rows, kernel, outer = (random.normal(size=shape).astype("f") for shape in ((12, 5), (5, 7), (12, 7)))
    pull = lambda f: lambda rows, kernel, outer: jax.vjp(f, rows, kernel)[1](outer)
    found = transform(pull(product))(rows, kernel, outer)
    expected = pull(jnp.matmul)(rows, kernel, outer)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)
