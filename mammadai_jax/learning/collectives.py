"""One update shared by several shards, on however many devices.

A `step` is written for one shard: it plays and draws its own share of the batch. What all shards must agree
on, it asks for here: a gradient's mean, or everybody's numbers. Nothing here does anything in a program of
one shard.

Sums over shards are taken in the shards' order, of the same numbers, wherever the shards are: S shards learn
the same on 1 device or on S. To that end `each` keeps the shards of one device apart, one after another: how
a product rounds depends on how many rows it has. XLA still may round a shard's own sums by what it finds
around them; that was seen in attention and in DPO, and under jax 0.12 in PPO of a few units.
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
    """A field of a learner's State that every shard has for itself; all others are the same everywhere."""
    return dataclasses.field(metadata={"own": True})


def count() -> int:
    """How many shards there are."""
    try:
        return jax.lax.axis_size(DEVICES) * jax.lax.axis_size(SHARDS)
    except NameError:  # no such axes: a program of one shard
        return 1


def index() -> jax.Array | int:
    """Which of them this one is."""
    if count() == 1:
        return 0
    return jax.lax.axis_index(DEVICES) * jax.lax.axis_size(SHARDS) + jax.lax.axis_index(SHARDS)


def each(function: Callable, *arguments: Any) -> Any:
    """What a function returns, computed for each shard by itself; it cannot ask for the others' numbers."""
    call = functools.partial(function, *arguments)
    if count() == 1:
        return call()
    program, shape = jax.make_jaxpr(call, return_shape=True)()
    # all arrays that it knows are its program's constants: to differ between shards they become arguments
    run = jax.custom_batching.sequential_vmap(lambda *known: eval_jaxpr(program.jaxpr, known))
    return jax.tree.unflatten(jax.tree.structure(shape), run(*program.consts))


def gather(rows: jax.Array) -> jax.Array:
    """Everybody's rows (N, ...), shard after shard: (S * N, ...)."""
    if count() == 1:
        return rows
    here = jax.lax.all_gather(rows, SHARDS, tiled=True)
    return jax.lax.all_gather(here, DEVICES, tiled=True)


def share(rows: jax.Array) -> jax.Array:
    """One shard's (N, ...) of everybody's rows (S * N, ...); ValueError if they cannot be shared equally."""
    size, rest = divmod(len(rows), count())
    if rest:
        raise ValueError(f"{len(rows)} rows cannot be shared by {count()} shards equally: use fewer shards")
    return rows if count() == 1 else jax.lax.dynamic_slice_in_dim(rows, index() * size, size)


def mean(tree: Any) -> Any:
    """The shards' mean of every array of a tree of floats."""
    if count() == 1:
        return tree
    flat, unravel = ravel_pytree(tree)  # one message rather than one for each array
    return unravel(gather(flat[None]).mean(axis=0))


def value_and_grad(
    loss: Callable,
    has_aux: bool = True,
    weight: jax.Array | float = 1.0,
    taken: Callable = jax.value_and_grad,
) -> Callable:
    """`jax.value_and_grad`, of which all that is returned is the shards' mean, weighted if they say how.

    `taken` is what a shard takes its own by: that, or microbatches.value_and_grad.
    """

    def of_all(*arguments):
        found = each(taken(loss, has_aux=has_aux), *arguments)
        if count() == 1:
            return found
        share = jnp.asarray(weight / jnp.maximum(mean(weight * 1.0), 1e-8))
        return mean(jax.tree.map(lambda x: x * share, found))

    return of_all
