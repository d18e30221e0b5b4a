import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.learning import microbatches
from tests.agents.probes import compiled


@pytest.mark.parametrize(
    "melodies, steps, count", [(64, 96, 8), (64, 12, 1), (6, 700, 3), (7, 96, 1), (4, 9999, 4)]
)
def test_every_melody_is_in_one_part_of_about_so_many_notes(melodies, steps, count):
    number = np.arange(melodies)
    parts = jax.jit(lambda rows: microbatches.divide(rows, steps))({"number": number})["number"]
    assert parts.shape == (count, melodies // count)
    assert parts.ravel().tolist() == list(range(melodies))
    beside = jax.jit(lambda rows: microbatches.divide(rows, steps, axis=1))(np.stack([number, -number]))
    np.testing.assert_array_equal(beside, np.stack([parts, -np.asarray(parts)], axis=1))


@pytest.mark.parametrize("count", [1, 2, 6])
def test_the_gradient_in_parts_is_that_of_the_whole(count, random):
    inputs, targets = (random.normal(size=shape).astype("f") for shape in ((12, 5), (12,)))

    def loss(params, rows):
        error = jnp.tanh(rows["inputs"] @ params["w"]) - rows["targets"]
        return (error**2).mean(), {"error": jnp.abs(error).mean()}

    params = {"w": random.normal(size=5).astype("f")}
    rows = {"inputs": inputs, "targets": targets}
    expected = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, rows)
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), rows)
    found = compiled(lambda params: microbatches.value_and_grad(loss)(params, parts))(params)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)
