import chex
import jax
import jax.numpy as jnp
import pytest

from mammadai_jax.agents import microbatches


@pytest.mark.parametrize(
    "melodies, steps, count", [(64, 96, 8), (64, 12, 1), (6, 700, 3), (7, 96, 1), (4, 9999, 4)]
)
def test_every_melody_is_in_one_part_of_about_so_many_notes(melodies, steps, count):
    number = jnp.arange(melodies)
    parts = microbatches.divide({"number": number}, steps)["number"]
    assert parts.shape == (count, melodies // count)
    assert parts.ravel().tolist() == list(range(melodies))
    beside = microbatches.divide(jnp.stack([number, -number]), steps, axis=1)
    chex.assert_trees_all_equal(beside, jnp.stack([parts, -parts], axis=1))


@pytest.mark.parametrize("count", [1, 2, 6])
def test_the_gradient_in_parts_is_that_of_the_whole(count, random, transform):
    inputs, targets = (jnp.asarray(random.normal(size=shape), "f") for shape in ((12, 5), (12,)))

    def loss(params, rows):
        error = jnp.tanh(rows["inputs"] @ params["w"]) - rows["targets"]
        return (error**2).mean(), {"error": jnp.abs(error).mean()}

    params = {"w": jnp.asarray(random.normal(size=5), "f")}
    rows = {"inputs": inputs, "targets": targets}
    expected = jax.value_and_grad(loss, has_aux=True)(params, rows)
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), rows)
    found = transform(lambda params: microbatches.value_and_grad(loss)(params, parts))(params)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)
