"""Where the shards of a run are: a learner's `step` for one of them becomes the program of all of them.

On every device a vmap over its shards, over the devices a shard_map: the two axes that agents.shards asks. A
State's fields are the same for all shards, but for those that it says are each shard's own, which have a
leading axis of all shards. What is said to be the same is proven to be, by the vmap.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mammadai_jax.learning.collectives import DEVICES, SHARDS

Advance = Callable[[Any, Any], tuple[Any, Any]]

# How many devices a CPU is: XLA's way to say so, and jax's.
FORCED = "xla_force_host_platform_device_count"
CPU_DEVICES = "jax_num_cpu_devices"


class DevicesError(ValueError):
    """Devices that cannot be had, or shards that they cannot share: says what would do."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """So many shards, on so many devices: of the latter the first there are, of all processes."""

    shards: int = 1
    devices: int = 1

    @property
    def mesh(self) -> jax.sharding.Mesh:
        """The devices in a row."""
        kind = (jax.sharding.AxisType.Auto,)
        return jax.make_mesh((self.devices,), (DEVICES,), kind, devices=jax.devices()[: self.devices])

    def spread(self, init: Callable[[], Any]) -> Callable[[], Any]:
        """() -> state of all shards, of one that gives a shard's.

        What is a shard's own begins as a copy, keys as keys of its own.
        """
        if self.shards == 1:
            return init
        number = jnp.arange(self.shards)

        def copies(leaf):
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.vmap(jax.random.fold_in, (None, 0))(leaf, number)
            return jnp.broadcast_to(leaf, (self.shards, *leaf.shape))

        def init_all():
            state = init()
            return _map_own(lambda own, part: jax.tree.map(copies, part) if own else part, state)

        return init_all

    def everywhere(self, advance: Advance, state: Any) -> Advance:
        """(state, data) -> (state, metrics) of all shards, of a function that does it for one."""
        if self.shards == 1:
            return advance
        axes = _map_own(lambda own, _: 0 if own else None, state), None
        specs = _map_own(lambda own, _: PartitionSpec(DEVICES) if own else PartitionSpec(), state)
        here = self.shards // self.devices
        on_device = jax.vmap(advance, axes, axes, axis_name=SHARDS, axis_size=here)
        specs = specs, PartitionSpec()
        # what is the same everywhere was proven by vmap, which shard_map would ask of every scan's carry
        return jax.shard_map(on_device, mesh=self.mesh, in_specs=specs, out_specs=specs, check_vma=False)

    def template(self, init: Callable[[], Any]) -> Any:
        """What `first` gives, as shapes, types and places."""
        shape = jax.eval_shape(self.spread(init))
        if self.shards == 1:
            return shape
        mesh = self.mesh

        def placed(own, part):
            where = NamedSharding(mesh, PartitionSpec(DEVICES) if own else PartitionSpec())
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), part)

        return _map_own(placed, shape)

    def first(self, init: Callable[[], Any]) -> Any:
        """The state of all shards to begin with, where it belongs.

        Made by a program it has strong types and the same layout as those that follow, and keys may be on the
        devices of several processes.
        """
        if self.shards == 1:
            return jax.jit(init)()
        where = jax.tree.map(lambda x: x.sharding, self.template(init))
        return jax.jit(self.spread(init), out_shardings=where)()

    def replicate(self, data: Any) -> Any:
        """Arrays that every process has, on every device."""
        if self.shards == 1:
            return data
        sharding = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf), sharding), data)

    def here(self, state: Any) -> Any:
        """What of a state is the same everywhere, as arrays of this process; the shards' own as it is."""
        if self.shards == 1:
            return state
        local = lambda leaf: leaf.addressable_data(0)
        return _map_own(lambda own, part: part if own else jax.tree.map(local, part), state)


ALONE = Placement()


def divide_cpu(devices: int | None) -> None:
    """Make as many devices of this machine's CPU as are asked for; before jax is used otherwise.

    It makes no difference to GPUs and TPUs, nor where XLA_FLAGS, jax's own setting or several processes have
    said how many there are.
    """
    told = FORCED in os.environ.get("XLA_FLAGS", "") or getattr(jax.config, CPU_DEVICES) >= 0
    if devices is None or devices < 1 or told or jax.distributed.is_initialized():
        return
    # where jax is in use already it has the devices that it has, and `place` says which are missing
    with contextlib.suppress(RuntimeError):
        jax.config.update(CPU_DEVICES, devices)


def place(shards: int, devices: int | None) -> Placement:
    """Shards on so many devices; by default on as many as can share them, but on all of several processes.

    One shard on several devices becomes as many shards as devices.

    Raises:
        DevicesError: if there are not so many devices, or they cannot share the shards.

    """
    available, processes = jax.device_count(), jax.process_count()
    if devices is None:
        devices = available if processes > 1 else _sharing(available, shards)
    if devices < 1:
        raise DevicesError(f"--devices {devices}: at least 1, or leave it out")
    if devices > available:
        raise DevicesError(
            f"--devices {devices}, but there {'is' if available == 1 else 'are'} {available}: ask for no "
            f"more. A CPU is {devices} with XLA_FLAGS=--{FORCED}={devices}"
        )
    if processes > 1 and devices != available:
        raise DevicesError(f"--devices {devices}, but {processes} processes have {available}: leave it out")
    shards = devices if shards == 1 else shards
    if shards % devices:
        raise DevicesError(f"{devices} devices cannot share {shards} shards: --devices divides --shards")
    return Placement(shards, devices)


def _sharing(available: int, shards: int) -> int:
    """How many of the devices that are there can share the shards at most."""
    return next((n for n in range(min(available, shards), 0, -1) if shards % n == 0), 1)


def _map_own(function: Callable[[bool, Any], Any], state: Any) -> Any:
    """A State with the results for each field, and whether that is a shard's own, in their places."""
    if not dataclasses.is_dataclass(state) or isinstance(state, type):
        return function(False, state)
    fields = {field.name: field.metadata.get("own", False) for field in dataclasses.fields(state)}
    parts = {name: getattr(state, name) for name in fields}
    made = {
        name: function(True, parts[name]) if own else _map_own(function, parts[name])
        for name, own in fields.items()
    }
    return dataclasses.replace(state, **made)
