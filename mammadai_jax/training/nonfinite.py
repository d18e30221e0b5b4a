# pyright: reportCallIssue=false
# (flax adds the constructors of its dataclasses)
"""Updates that leave a number which is not finite are skipped and counted.

A learner's `step` becomes one that keeps the state where an update would leave a NaN or an infinity anywhere
in the state or in the metrics. Only the keys and the counts of `ADVANCED` go on, so that the next update
draws other numbers. After LIMIT such updates in a row the state before the last one stays as it was, to be
written out (dumps.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mammadai_jax.learning import collectives

LIMIT = 5  # updates in a row that are skipped, the last of which ends the training
ADVANCED = ("update", "position")  # of a state: what decides, beside the keys, which examples come next
SKIPPED = "skipped_updates"  # a metric: of a chunk, only where there are any
FINITE = "finite"  # a metric inside of the outer loop: of a chunk as a whole


@struct.dataclass
class Guarded:
    """A state, and what was skipped of the updates behind it.

    Attributes:
        state: of the learner.
        in_a_row: int32 (), updates skipped in a row; at LIMIT nothing changes any more.
        made: int32 (), updates that were tried, the skipped ones among them.

    """

    state: Any
    in_a_row: jax.Array | int
    made: jax.Array | int


def finite_here(tree: Any) -> jax.Array:
    """Whether every float of a tree is finite, and each array's sum: of this shard's, bool ().

    A sum is one kernel where asking every number takes two, which halves what is compiled.
    """
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.isfinite(jnp.array([leaf.sum(dtype=jnp.float32) for leaf in floats], jnp.float32)).all()


def finite(tree: Any) -> jax.Array:
    """Whether every float of a tree is finite, on all shards: bool ()."""
    return collectives.gather(finite_here(tree)[None]).all()


def skipping(step: Callable) -> Callable:
    """(Guarded, data) -> (Guarded, metrics): as `step`, but an update that is not finite changes nothing.

    The metrics of a skipped update are 0, and SKIPPED counts it.
    """

    def guarded_step(guarded: Guarded, data: Any) -> tuple[Guarded, dict[str, jax.Array]]:
        after, metrics = step(guarded.state, data)
        goes_on, sound = guarded.in_a_row < LIMIT, finite((after, metrics))
        in_a_row = jnp.where(goes_on, jnp.where(sound, 0, guarded.in_a_row + 1), LIMIT)
        taken, drawn = goes_on & sound, in_a_row < LIMIT

        def choose(path, old, new):
            return jnp.where(drawn if _advances(path, old) else taken, new, old)

        state = jax.tree_util.tree_map_with_path(choose, guarded.state, after)
        metrics = {name: jnp.where(taken, value, 0.0) for name, value in metrics.items()}
        guarded = Guarded(state, in_a_row, guarded.made + goes_on)
        return guarded, {**metrics, SKIPPED: 1.0 - taken}

    return guarded_step


def of_those_made(means: Mapping[str, float], updates: int) -> dict[str, float]:
    """Means of the metrics over the updates that were not skipped, of means over all; without those, none."""
    skipped = round(means[SKIPPED] * updates)
    made = updates - skipped
    rest = {name: mean * updates / made for name, mean in means.items() if name != SKIPPED} if made else {}
    return {**rest, SKIPPED: float(skipped)} if skipped else rest


def _advances(path: tuple, leaf: jax.Array) -> bool:
    """Whether a leaf of a state goes on although its update is skipped."""
    name = getattr(path[-1], "name", getattr(path[-1], "key", "")) if path else ""
    return name in ADVANCED or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
