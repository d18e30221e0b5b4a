"""The motifs of a melody so far: the last events packed in words, and a table of fixed size that knows them.

The table has a bucket of 16 places for a motif, chosen by a hash. A place holds 16 bits of the hash and the
step after which the motif first ended; there the melody's own events are compared, so a motif is never taken
for another. It is forgotten, and its later repetition not seen, only if its bucket is full or holds two
others with the same 16 bits: fewer than one motif in a hundred million. A search looks at one bucket and at
two earlier motifs, however long the melody is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.notes import RL_TUNER

LEAST = 3  # different pitches in a motif
BITS = 6  # of an event
EVENTS = 5  # in a word
EVENT = (1 << BITS) - 1
WAYS = 16  # places in a bucket
LONGEST = (1 << 16) - 1  # steps that a place can count


def words(bar: int) -> int:
    """Number of words that hold `bar` events."""
    return -(-bar // EVENTS)


def table(length: int) -> jax.Array:
    """An empty table for a melody of `length` steps: uint32 (buckets, 16), two motifs a bucket or fewer."""
    return jnp.zeros((1 << (length // 4).bit_length(), WAYS), jnp.uint32)


def past(length: int, bar: int) -> jax.Array:
    """Room for the motifs of a melody of `length` steps: uint32 (length + 8, words)."""
    # The 8 keep equal steps of the melodies of a batch from falling into one set of the processor's cache.
    return jnp.zeros((length + 8, words(bar)), jnp.uint32)


def push(recent: jax.Array, action: jax.Array, bar: int) -> jax.Array:
    """The last `bar` events, packed uint32 (words,), with one more; the newest lowest in the last."""
    oldest = bar - EVENTS * (len(recent) - 1)  # events in the first word
    used = np.array([BITS * oldest] + [BITS * EVENTS] * (len(recent) - 1), np.uint32)
    enters = jnp.append(recent[1:] >> (BITS * (EVENTS - 1)), action.astype(jnp.uint32))
    return (recent << BITS | enters) & ((np.uint32(1) << used) - np.uint32(1))


def event(recent: jax.Array, age: int) -> jax.Array:
    """The packed event `age` steps before the newest, int32 ()."""
    word, place = divmod(age, EVENTS)
    return (recent[len(recent) - 1 - word] >> (BITS * place) & EVENT).astype(jnp.int32)


def pitches(recent: jax.Array, bar: int) -> jax.Array:
    """Number of different pitches among the last `bar` events, int32 ()."""
    low = high = jnp.uint32(0)
    for age in range(bar):
        token = event(recent, age)
        bit = jnp.uint32(1) << (token % 32).astype(jnp.uint32)
        low |= jnp.where(token < 32, bit, 0)
        high |= jnp.where(token < 32, 0, bit)
    low &= np.uint32(2**32 - (1 << RL_TUNER.first))  # special events are no pitches
    return (jax.lax.population_count(low) + jax.lax.population_count(high)).astype(jnp.int32)


def first_end(motifs: jax.Array, past: jax.Array, recent: jax.Array, time: jax.Array) -> jax.Array:
    """Steps there were when a motif first ended, int32 (); 0 if it is new.

    Args:
        motifs: the table.
        past: uint32 (steps, words), the packed events after each step that ended a new motif.
        recent: the motif.
        time: steps before it ended.

    """
    bucket, tag = _hash(motifs, recent)
    places = motifs[bucket]
    same = (places >> 16 == tag) & (places > 0)
    ends = (places & LONGEST).astype(jnp.int32)
    candidates = jnp.stack([jnp.where(same, ends, LONGEST).min(), jnp.where(same, ends, 0).max()])
    # Where there is no candidate the row to be written next is looked at: it is needed in the cache anyway.
    found = candidates[1] > 0
    row = jnp.where(found, candidates - 1, time)
    known = found & (past[row] == recent).all(axis=1)
    return jnp.where(known, candidates, 0).max()


def insert(motifs: jax.Array, recent: jax.Array, end: jax.Array, wanted: jax.Array) -> jax.Array:
    """The table with a new motif that ended after `end` steps; as it was unless `wanted`."""
    bucket, tag = _hash(motifs, recent)
    used = (motifs[bucket] > 0).sum()
    # A place beyond the bucket is nowhere: nothing is written and the table stays where it is.
    place = jnp.where(wanted, used, WAYS)
    return motifs.at[bucket, place].set(tag << 16 | end.astype(jnp.uint32), mode="drop")


def _hash(motifs: jax.Array, recent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A motif's bucket and its tag of 16 bits."""
    mixed = jnp.uint32(0x243F6A88)
    for word in recent:
        mixed = (mixed ^ word) * np.uint32(0x9E3779B1)
        mixed = mixed ^ mixed >> 15
    mixed = mixed * np.uint32(0xC2B2AE3D)
    mixed = mixed ^ mixed >> 16
    return (mixed % len(motifs)).astype(jnp.int32), mixed >> 16
