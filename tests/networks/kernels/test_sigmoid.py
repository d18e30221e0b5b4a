import chex
import jax
import numpy as np
import pytest

from mammadai_jax.networks.kernels.sigmoid import sigmoid, sigmoid_by_tanh


def test_both_forms_have_the_same_values_and_gradients(transform):
    x = np.linspace(-20, 20, 41, dtype="f")
    both = lambda function: transform(lambda x: (*jax.vjp(function, x)[1](x), function(x)))(x)
    for form in (sigmoid, sigmoid_by_tanh):
        chex.assert_trees_all_close(both(form), both(jax.nn.sigmoid), rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("platform, form", [("cpu", "tanh"), ("cuda", "exponential"), ("tpu", "exponential")])
def test_the_form_is_that_of_the_platform_that_a_program_is_lowered_for(platform, form):
    text = jax.jit(sigmoid).trace(np.float32(0)).lower(lowering_platforms=(platform,)).as_text()
    assert {name for name in ("tanh", "exponential") if f"stablehlo.{name}" in text} == {form}
