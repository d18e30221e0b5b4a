"""A copy of a state in the memory of the host, to go back to when its buffers have been donated.

On an accelerator it takes no memory of the device. Of arrays that several processes share, each keeps its own
shards.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

HOST = "pinned_host"


class HostCopy(NamedTuple):
    """Leaves of a state in the host's memory, and what they are on the devices.

    Attributes:
        leaves: arrays; keys as their data.
        shardings: of the leaves on the devices.
        keys: implementation of each leaf's keys, None of other leaves.
        structure: of the state.

    """

    leaves: list[jax.Array]
    shardings: list[Any]
    keys: list[Any]
    structure: Any


def host_copy(state: Any) -> HostCopy:
    """Copy a state to the host."""
    leaves, structure = jax.tree.flatten(state)
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    keys = [jax.random.key_impl(leaf) if is_key(leaf) else None for leaf in leaves]
    leaves = [jax.random.key_data(leaf) if key else leaf for leaf, key in zip(leaves, keys, strict=True)]
    shardings = [leaf.sharding for leaf in leaves]
    return HostCopy(
        [_moved(x, x.sharding.with_memory_kind(HOST)) for x in leaves], shardings, keys, structure
    )


def back_on_devices(copy: HostCopy) -> Any:
    """The state that was copied, on its devices."""
    leaves = [_moved(*pair) for pair in zip(copy.leaves, copy.shardings, strict=True)]
    leaves = [
        jax.random.wrap_key_data(leaf, impl=key) if key else leaf
        for leaf, key in zip(leaves, copy.keys, strict=True)
    ]
    return jax.tree.unflatten(copy.structure, leaves)


def _moved(array: jax.Array, sharding: Any) -> jax.Array:
    """An array with another sharding on the same devices; each process moves its own shards."""
    if array.is_fully_addressable:
        return jax.device_put(array, sharding)
    kind = sharding.memory_kind
    parts = [part.data for part in array.addressable_shards]
    parts = [jax.device_put(part, part.sharding.with_memory_kind(kind)) for part in parts]
    return jax.make_array_from_single_device_arrays(array.shape, sharding, parts)
