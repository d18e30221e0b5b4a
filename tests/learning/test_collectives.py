"""The mean over shards: the same bits on any number of devices, and no device holds every shard's arrays."""

import functools
import math
import operator
import re

import jax
import numpy as np
import pytest

from mammadai_jax.learning import collectives
from mammadai_jax.training.sharding import Placement

SIZES = ((), (3, 5), (1, 7), (999,))  # 1,021 numbers, a prime: no number of devices divides them
SPEC = jax.sharding.PartitionSpec
SHAPE = re.compile(r"\b[a-z]\w*\d\[([\d,]+)\]")  # of an array in a program's text: f32[3,5]


def tree_of(random, shards):
    """Arrays with a leading axis of shards, whose sums depend on the order: magnitudes differ by shard."""
    scales = 10.0 ** random.uniform(-3, 3, shards)
    return [(random.normal(size=(*size, shards)) * scales).T.astype(np.float32) for size in SIZES]


def program(devices, shards):
    """The mean over all shards, on so many devices."""
    return run(collectives.mean, devices, shards)


def run(function, devices, shards):
    """A function of each shard's rows that gives the same on all shards, on so many devices."""
    on_device = jax.vmap(function, axis_name=collectives.SHARDS, out_axes=None)
    mesh, rows = Placement(shards, devices).mesh, SPEC(collectives.DEVICES)
    return jax.jit(jax.shard_map(on_device, mesh=mesh, in_specs=rows, out_specs=SPEC(), check_vma=False))


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_the_mean_is_the_sum_in_the_shards_order(devices, random):
    tree = tree_of(random, 8)
    expected = [functools.reduce(operator.add, rows) / np.float32(8) for rows in tree]
    assert any((rows[::-1].sum(axis=0) / 8 != mean).any() for rows, mean in zip(tree, expected, strict=True))
    for found, mean in zip(program(devices, 8)(tree), expected, strict=True):
        np.testing.assert_array_equal(found, mean)


def test_weighted_gradients_are_the_same_on_any_number_of_devices(random):
    """XLA rounds a division of one number, a weight by the mean weight, and one of several differently."""
    rows, weights = random.normal(size=(2, 8, 64)).astype(np.float32)

    def gradient(rows, weights):
        loss = lambda params: (params * rows).sum()
        of_all = collectives.value_and_grad(loss, has_aux=False, weight=weights[0] ** 2)
        return of_all(np.linspace(0, 1, 64, dtype=np.float32))

    on = lambda devices: jax.tree.map(np.atleast_1d, run(gradient, devices, 8)(rows, weights))
    found = [np.concatenate(on(devices)) for devices in (1, 2, 4, 8)]
    share = weights[:, 0] ** 2 / (weights[:, 0] ** 2).mean()
    np.testing.assert_allclose(found[0][1:], (share[:, None] * rows).mean(axis=0), rtol=1e-4, atol=1e-5)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_many_shards_on_each_device_have_the_same_mean_on_any(random):
    tree = tree_of(random, 24)
    first, *others = (jax.tree.map(np.asarray, program(devices, 24)(tree)) for devices in (1, 2, 8))
    for found in others:
        jax.tree.map(np.testing.assert_array_equal, found, first)
    jax.tree.map(lambda x, rows: np.testing.assert_allclose(x, rows.mean(axis=0), rtol=1e-4), first, tree)


def test_rows_of_one_device_have_the_same_mean(random):
    """As `replay-nan` computes shards, without a mesh, here under a vmap over runs."""
    tree = tree_of(random, 4)
    own = lambda state, data: (collectives.mean([rows[collectives.index()] for rows in data]), ())
    rows = Placement(4, 4).on_one_device(own, [rows[0] for rows in tree])
    runs = [np.stack([rows, -rows]) for rows in tree]
    found, _ = jax.jit(jax.vmap(rows, (None, 0)))([rows[0] for rows in tree], runs)
    for pair, mean in zip(found, program(4, 4)(tree), strict=True):
        np.testing.assert_array_equal(pair, np.stack([mean, -mean]))


def test_no_device_holds_the_arrays_of_all_shards(random):
    tree = tree_of(random, 8)
    text = program(8, 8).lower(tree).compile().as_text()
    sizes = [math.prod(map(int, shape.split(","))) for shape in SHAPE.findall(text)]
    own = sum(rows[0].size for rows in tree)
    assert own <= max(sizes) < own + 8
    assert {"all-to-all(", "all-gather("} <= set(re.findall(r"all-[\w-]+\(", text))
