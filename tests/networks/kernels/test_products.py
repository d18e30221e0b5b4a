import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.networks.kernels import products
from mammadai_jax.networks.kernels.products import product

gradient = lambda function: lambda rows, kernel, outer: jax.vjp(function, rows, kernel)[1](outer)


@pytest.mark.parametrize("width", [3, 7])
def test_a_products_gradients_are_those_of_the_plain_product(width, random, transform):
    shapes = (12, 5), (5, width), (12, width)
    rows, kernel, outer = (random.normal(size=shape).astype("f") for shape in shapes)
    ours = transform(gradient(product))(rows, kernel, outer)
    expected = outer @ kernel.T, rows.T @ outer
    chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 8, 40])
def test_a_product_of_many_or_few_rows_is_the_plain_product(count, random, transform):
    rows, kernel = (random.normal(size=shape).astype("f") for shape in ((count, 20), (20, 7000)))
    chex.assert_trees_all_close(transform(product)(rows, kernel), rows @ kernel, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [3, 16])
def test_bfloat16_rounds_operands_and_not_sums(count, random, transform):
    shapes = (count, 300), (300, 5), (count, 5)
    rows, kernel, outer = (random.normal(size=shape).astype("f") for shape in shapes)
    rounded = [x.astype(jnp.bfloat16).astype("f") for x in (rows, kernel, outer)]
    with jax.default_matmul_precision("bfloat16"):
        ours = transform(product)(rows, kernel), transform(gradient(product))(rows, kernel, outer)
    expected = rounded[0] @ rounded[1], (rounded[2] @ rounded[1].T, rounded[0].T @ rounded[2])
    chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-4)
    assert np.abs(ours[0] - rows @ kernel).max() > 1e-3  # it does round
    chex.assert_trees_all_equal_dtypes(ours, (outer, (rows, kernel)))


FORMS = {
    "few rows": (products.multiply_transposed, products.multiply, (8, 20), (20, 30)),
    "kernel's gradient": (products.kernel_cpu, products.kernel_plain, (16, 9), (16, 4)),
    "of bfloat16": (products.rounded_cpu, products.rounded_plain, (16, 9), (16, 4)),
    "of bfloat16, odd": (products.rounded_cpu, products.rounded_plain, (3, 4), (3, 9)),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_cpus_form_is_the_plain_form(name, random, transform):
    """In its values, and in both operands' gradients."""
    special, plain, *shapes = FORMS[name]
    operands = [random.normal(size=shape).astype("f") for shape in shapes]
    outer = random.normal(size=jax.eval_shape(plain, *operands).shape).astype("f")
    for form in (lambda f: f, lambda f: lambda *operands: gradient(f)(*operands, outer)):
        ours, expected = (transform(form(function))(*operands) for function in (special, plain))
        chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_another_platforms_program_has_the_plain_form(platform, precision):
    rows, kernel = jnp.zeros((16, 512)), jnp.zeros((512, 512))
    both = lambda rows, kernel: (product(rows, kernel), products.gradient_of_kernel(kernel, kernel[:, :8]))
    plain = lambda rows, kernel: (
        products.multiply(rows, kernel),
        (products.rounded_plain if products.rounds_operands() else products.kernel_plain)(
            kernel, kernel[:, :8]
        ),
    )
    text = lambda f, to: jax.jit(f).trace(rows, kernel).lower(lowering_platforms=(to,)).as_text()
    counts = lambda program: [program.count(f"stablehlo.{op}") for op in ("optimization_barrier", "reshape")]
    with jax.default_matmul_precision(precision):
        assert counts(text(both, platform)) == counts(text(plain, platform))
        assert counts(text(both, "cpu")) != counts(text(plain, "cpu"))
