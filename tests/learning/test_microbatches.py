import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mammadai_jax.learning import microbatches
from tests.agents.probes import compiled

STEPS = 5


@pytest.mark.parametrize(
    "melodies, steps, count", [(64, 96, 8), (64, 12, 1), (6, 700, 3), (7, 96, 1), (4, 9999, 4)]
)
def test_a_microbatch_has_about_so_many_notes(melodies, steps, count):
    assert microbatches.num_microbatches(melodies, steps) == count


def loss(params, rows, key=None):
    by_time, by_melody = rows
    noise = 0.0 if key is None else jax.random.normal(key)
    error = jnp.tanh(by_time["inputs"].T @ params["w"]) - by_melody + noise
    return (error**2).mean(), {"error": jnp.abs(error).mean()}


def data(random):
    draw = lambda *shape: random.normal(size=shape).astype("f")
    return {"w": draw(STEPS)}, ({"inputs": draw(STEPS, 12)}, draw(12))


def gradient_of(num_parts, monkeypatch):
    monkeypatch.setattr(microbatches, "NOTES", 12 * STEPS // num_parts)
    return microbatches.value_and_grad(loss, num_steps=STEPS, axes=(1, 0))


@pytest.mark.parametrize("count", [1, 2, 6])
def test_the_accumulated_gradient_is_that_of_the_minibatch(count, random, transform, monkeypatch):
    params, rows = data(random)
    expected = jax.value_and_grad(loss, has_aux=True)(params, rows)
    accumulated = transform(gradient_of(count, monkeypatch))(params, rows)
    chex.assert_trees_all_close(accumulated, expected, rtol=1e-5, atol=1e-6)


def test_each_microbatch_has_a_key_of_its_own(random, monkeypatch):
    params, (by_time, by_melody) = data(random)
    key, few = jax.random.key(0), lambda x, part: np.split(x, 3, axis=-1)[part]
    parts = [
        loss(params, ({"inputs": few(by_time["inputs"], part)}, few(by_melody, part)), part_key)[0]
        for part, part_key in enumerate(jax.random.split(key, 3))
    ]
    (value, _), _ = compiled(gradient_of(3, monkeypatch))(params, (by_time, by_melody), key)
    np.testing.assert_allclose(value, np.mean(parts), rtol=1e-5)


@pytest.mark.parametrize("platform, loops", [("cpu", True), ("cuda", False), ("tpu", False)])
def test_microbatches_are_for_the_platform_that_a_program_is_lowered_for(
    platform, loops, random, monkeypatch
):
    traced = jax.jit(gradient_of(3, monkeypatch)).trace(*data(random))
    assert ("stablehlo.while" in traced.lower(lowering_platforms=(platform,)).as_text()) == loops
