"""How different each melody is from the others: `statistics.self_overlap` under `jit`, for each melody.

Runs of notes are compared by a 32-bit hash of their moves, the interval and the steps from each note to the
next: two different runs have the same hash in one of a hundred sets of ten thousand runs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.notes import MAGENTA

ODD = np.uint32(0x9E3779B1)  # 2^32 over the golden ratio: in the product every bit changes those above it


def own_runs(tokens: jax.Array, n: int = 6) -> jax.Array:
    """The share of each melody's runs of n notes that no other melody has: float32 (N,).

    Tokens int32 (N, T) of `MAGENTA`. The share is 0 for a melody of fewer than n notes.
    """
    run, whole = _runs(tokens, n)
    melodies = len(tokens)
    owner = jnp.broadcast_to(jnp.arange(melodies)[:, None], run.shape)
    order = jnp.argsort(run.ravel())
    run, whole, owner = (x.ravel()[order] for x in (run, whole, owner))
    kind = jnp.cumsum(run != jnp.roll(run, 1))
    first = jax.ops.segment_min(jnp.where(whole, owner, melodies), kind, len(run) + 1)
    last = jax.ops.segment_max(jnp.where(whole, owner, -1), kind, len(run) + 1)
    own = whole & (first == last)[kind]
    count = lambda those: jax.ops.segment_sum(those.astype(jnp.float32), owner, melodies)
    return count(own) / jnp.maximum(count(whole), 1.0)


def _runs(tokens: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """A hash of the run of n notes from each note on, uint32 (N, T), and whether there is one (N, T)."""
    begins = tokens >= MAGENTA.first
    onset = jnp.argsort(
        ~begins, axis=-1, stable=True
    )  # step of the first note, the second, ...; then the other steps
    pitch = jnp.take_along_axis(tokens, onset, axis=-1)
    later = lambda x, places: jnp.roll(x, -places, axis=-1)
    move = (256 * (later(onset, 1) - onset) + later(pitch, 1) - pitch).astype(jnp.uint32)
    run = jnp.zeros_like(move)
    for place in range(n - 1):
        run = (run ^ later(move, place)) * ODD
        run ^= run >> 15
    return run, jnp.arange(tokens.shape[-1]) + n <= begins.sum(axis=-1, keepdims=True)
