"""Placement of a run's shards on devices: a learner's `step` for one shard becomes the program of all.

A `vmap` runs over the shards of a device and a `shard_map` over the devices: the two axes over which
learning.collectives sums. A State's fields are equal on all shards, except for those with the metadata `own`,
which have a leading axis of all shards. The vmap raises an error if a field that should be equal is not.
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
    """Devices that are not there, or cannot divide the shards; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """So many shards on so many devices: the first devices of all processes."""

    shards: int = 1
    devices: int = 1

    @property
    def mesh(self) -> jax.sharding.Mesh:
        """The devices in a row."""
        kind = (jax.sharding.AxisType.Auto,)
        return jax.make_mesh((self.devices,), (DEVICES,), kind, devices=jax.devices()[: self.devices])

    def spread(self, init: Callable[[], Any]) -> Callable[[], Any]:
        """Turn () -> state of one shard into () -> state of all shards.

        A shard's own fields begin as copies, but its keys differ from those of the other shards.
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
        """Turn (state, data) -> (state, metrics) of one shard into the same of all shards."""
        if self.shards == 1:
            return advance
        axes = _map_own(lambda own, _: 0 if own else None, state), None
        specs = _map_own(lambda own, _: PartitionSpec(DEVICES) if own else PartitionSpec(), state)
        here = self.shards // self.devices
        on_device = jax.vmap(advance, axes, axes, axis_name=SHARDS, axis_size=here)
        specs = specs, PartitionSpec()
        # vmap has checked what is equal everywhere; shard_map would ask for it in the carry of every scan
        return jax.shard_map(on_device, mesh=self.mesh, in_specs=specs, out_specs=specs, check_vma=False)

    def on_one_device(self, advance: Advance, state: Any) -> Advance:
        """As `everywhere`, without a mesh: every shard is a row on one device, whatever `devices` says."""
        if self.shards == 1:
            return advance
        axes = _map_own(lambda own, _: 0 if own else None, state), None
        rows = jax.vmap(advance, axes, axes, axis_name=SHARDS, axis_size=self.shards)
        return jax.vmap(rows, None, None, axis_name=DEVICES, axis_size=1)

    def template(self, init: Callable[[], Any]) -> Any:
        """The shapes, types and shardings of `first`."""
        shape = jax.eval_shape(self.spread(init))
        if self.shards == 1:
            return shape
        mesh = self.mesh

        def placed(own, part):
            where = NamedSharding(mesh, PartitionSpec(DEVICES) if own else PartitionSpec())
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), part)

        return _map_own(placed, shape)

    def first(self, init: Callable[[], Any]) -> Any:
        """The first state of all shards, on its devices.

        A compiled program makes it, so that it has the same types and layout as the states that follow, and
        keys can be on the devices of several processes.
        """
        if self.shards == 1:
            return jax.jit(init)()
        where = jax.tree.map(lambda x: x.sharding, self.template(init))
        return jax.jit(self.spread(init), out_shardings=where)()

    def replicate(self, data: Any) -> Any:
        """Arrays that every process has, copied to every device."""
        if self.shards == 1:
            return data
        sharding = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf), sharding), data)

    def here(self, state: Any) -> Any:
        """A state whose fields that are equal everywhere are arrays of this process; the shards' own stay."""
        if self.shards == 1:
            return state
        local = lambda leaf: leaf.addressable_data(0)
        return _map_own(lambda own, part: part if own else jax.tree.map(local, part), state)


ALONE = Placement()


def divide_cpu(devices: int | None) -> None:
    """Divide this machine's CPU into so many devices; call it before jax is used otherwise.

    GPUs and TPUs are not affected. Nothing is done if XLA_FLAGS or jax's own setting already give a number,
    or if several processes train together.
    """
    given = FORCED in os.environ.get("XLA_FLAGS", "") or getattr(jax.config, CPU_DEVICES) >= 0
    if devices is None or devices < 1 or given or jax.distributed.is_initialized():
        return
    # if jax is in use already its devices cannot change; `place` then reports what is missing
    with contextlib.suppress(RuntimeError):
        jax.config.update(CPU_DEVICES, devices)


def place(shards: int, devices: int | None) -> Placement:
    """The placement of shards on so many devices.

    By default these are as many as divide the shards, or all devices if there are several processes. A single
    shard on several devices becomes as many shards as devices.

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
    """The largest number of available devices that divides the shards."""
    return next((n for n in range(min(available, shards), 0, -1) if shards % n == 0), 1)


def _map_own(function: Callable[[bool, Any], Any], state: Any) -> Any:
    """A State with each field replaced by function(whether it is a shard's own, field)."""
    if not dataclasses.is_dataclass(state) or isinstance(state, type):
        return function(False, state)
    fields = {field.name: field.metadata.get("own", False) for field in dataclasses.fields(state)}
    parts = {name: getattr(state, name) for name in fields}
    made = {
        name: function(True, parts[name]) if own else _map_own(function, parts[name])
        for name, own in fields.items()
    }
    return dataclasses.replace(state, **made)
