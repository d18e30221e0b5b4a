"""A state's copy on the host outlives its donation; two processes copy theirs in test_devices.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mammadai_jax.training.host_copy import HOST, back_on_devices, host_copy


def state(sharding=None):
    made = {"x": jnp.arange(8.0), "n": jnp.int32(3), "keys": jax.random.split(jax.random.key(7), 8)}
    if sharding is None:
        return made
    whole = NamedSharding(sharding.mesh, PartitionSpec())
    return jax.device_put(made, {"x": sharding, "n": whole, "keys": sharding})


def over_devices():
    return NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec("data"))


@pytest.mark.parametrize("place", [lambda: None, over_devices], ids=["one device", "eight devices"])
def test_a_donated_state_comes_back_to_its_devices(place):
    first = state(place())
    expected = jax.tree.map(lambda x: x.sharding, first)
    copy = host_copy(first)
    assert all(leaf.sharding.memory_kind == HOST for leaf in copy.leaves)
    jax.jit(lambda s: jax.tree.map(lambda x: x, s) | {"x": s["x"] + 1}, donate_argnums=0)(first)
    assert first["x"].is_deleted()
    again = back_on_devices(copy)
    assert jax.tree.map(lambda x: x.sharding, again) == expected
    np.testing.assert_array_equal(again["x"], np.arange(8.0))
    assert int(again["n"]) == 3 and again["n"].dtype == jnp.int32
    numbers = jax.random.key_data(again["keys"])
    np.testing.assert_array_equal(numbers, jax.random.key_data(state()["keys"]))
