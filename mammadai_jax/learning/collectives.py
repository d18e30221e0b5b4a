"""Collective operations for an update by several shards, on any number of devices.

A `step` is written for one shard: it plays and draws its own share of the batch. It calls these functions for
what all shards share: the mean of a gradient, or the rows of all shards. In a program of one shard they do
nothing.

Sums over shards are taken in the shards' order, of the same numbers, on any devices: S shards learn the same
on 1 device or on S. Therefore `each` computes the shards of one device one after another, because the
rounding of a product depends on its number of rows. XLA may still round a shard's own sums by what it fuses
them with; that was observed in attention, in DPO and in Muon's products, and under jax 0.10.0 and 0.12 in
PPO with few units.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr
from jax.flatten_util import ravel_pytree

DEVICES, SHARDS = "data", "shard"  # axes: over the devices, and over the shards on each of them


def own() -> Any:
    """A field of a learner's State that each shard has for itself; other fields are equal on all shards."""
    return dataclasses.field(metadata={"own": True})


def count() -> int:
    """The number of shards."""
    try:
        return jax.lax.axis_size(DEVICES) * jax.lax.axis_size(SHARDS)
    except NameError:  # no such axes: a program of one shard
        return 1


def index() -> jax.Array | int:
    """The index of this shard, int ()."""
    if count() == 1:
        return 0
    return jax.lax.axis_index(DEVICES) * jax.lax.axis_size(SHARDS) + jax.lax.axis_index(SHARDS)


def each(function: Callable, *arguments: Any) -> Any:
    """The result of a function, computed for each shard by itself; it must not use collectives."""
    call = functools.partial(function, *arguments)
    if count() == 1:
        return call()
    program, shape = jax.make_jaxpr(call, return_shape=True)()
    # the arrays of the closure are the program's constants; as arguments they can differ between shards
    run = jax.custom_batching.sequential_vmap(lambda *consts: eval_jaxpr(program.jaxpr, consts))
    return jax.tree.unflatten(jax.tree.structure(shape), run(*program.consts))


def gather(rows: jax.Array) -> jax.Array:
    """The rows (N, ...) of all shards in order: (S * N, ...)."""
    if count() == 1:
        return rows
    on_device = jax.lax.all_gather(rows, SHARDS, tiled=True)
    return jax.lax.all_gather(on_device, DEVICES, tiled=True)


def share(rows: jax.Array) -> jax.Array:
    """The part (N, ...) of this shard in rows (S * N, ...); ValueError if they cannot be divided equally."""
    size, rest = divmod(len(rows), count())
    if rest:
        raise ValueError(f"{len(rows)} rows cannot be shared by {count()} shards equally: use fewer shards")
    return rows if count() == 1 else jax.lax.dynamic_slice_in_dim(rows, index() * size, size)


def mean(tree: Any) -> Any:
    """The shards' mean of every array of a tree of floats.

    Each device adds up one slice of the arrays of all shards, and the devices exchange the sums. So a device
    sends and holds about two such arrays, however many shards there are; if it gathered those of all shards,
    memory and traffic would grow with their number. The sum is a chain of additions in the shards' order:
    XLA chooses the order of a reduction by its operand's size, which depends on the number of devices.
    """
    if count() == 1:
        return tree
    flat, unravel = ravel_pytree(tree)  # one message rather than one for each array
    rows = _exchange_slices(jax.lax.all_gather(flat, SHARDS))
    total, _ = jax.lax.scan(lambda total, row: (total + row, None), rows[0], rows[1:], unroll=8)
    slices = jax.lax.all_gather(total / len(rows), DEVICES, tiled=True)
    return unravel(slices[: flat.size])


def _exchange_slices(rows: jax.Array) -> jax.Array:
    """Rows (N, P) on each of D devices -> a slice of all rows in order (N * D, P / D), zeros at the end."""
    devices = jax.lax.axis_size(DEVICES)
    padded = jnp.pad(rows, ((0, 0), (0, -rows.shape[1] % devices)))
    return jax.lax.all_to_all(padded, DEVICES, split_axis=1, concat_axis=0, tiled=True)


def value_and_grad(
    loss: Callable,
    has_aux: bool = True,
    weight: jax.Array | float = 1.0,
    taken: Callable = jax.value_and_grad,
) -> Callable:
    """`jax.value_and_grad` whose results are the mean over the shards, weighted by `weight`.

    `taken` computes a shard's own: `jax.value_and_grad` or `microbatches.value_and_grad`. Beside a loss that
    is not finite its metrics are NaN: gradient and metrics may look well although the loss has overflowed.
    """

    def of_all(*arguments):
        own = each(taken(loss, has_aux=has_aux), *arguments)
        if count() > 1:
            of_all_shards = jnp.maximum(mean(weight * 1.0), 1e-8)
            # one division after another: XLA rounds that of several numbers at once differently
            share = each(lambda: jnp.asarray(weight / of_all_shards))
            own = mean(jax.tree.map(lambda x: x * share, own))
        value, gradient = own
        if has_aux:
            total, metrics = value
            # the difference is NaN by the loss's own doing, which `replay-nan` follows to where it arose
            value = total, jax.tree.map(lambda x: jnp.where(jnp.isfinite(total), x, total - total), metrics)
        return value, gradient

    return of_all
