"""The motifs of a melody so far: the last events packed in words, and a hash table of fixed size.

A hash selects a bucket of 16 slots for a motif. A slot holds 16 bits of the hash and the step after which the
motif first ended; the events stored there are compared, so that two motifs are never confused. A motif is
lost, and its later repetition missed, only if its bucket is full or holds two others with the same 16 bits:
fewer than one motif in a hundred million. A look-up reads one bucket and two earlier motifs, however long the
melody is.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.notes import RL_TUNER

LEAST = 3  # different pitches in a motif
BITS = (RL_TUNER.size - 1).bit_length()  # of an event
EVENTS = 32 // BITS  # in a word
EVENT = (1 << BITS) - 1
WAYS = 16  # slots in a bucket
LONGEST = (1 << 16) - 1  # the last step that a slot can hold


def words(bar: int) -> int:
    """Number of words for `bar` events."""
    return -(-bar // EVENTS)


def table(length: int) -> jax.Array:
    """An empty table for a melody of `length` steps: uint32 (buckets, 16), two motifs a bucket or fewer."""
    return jnp.zeros((1 << (length // 4).bit_length(), WAYS), jnp.uint32)


def past(length: int, bar: int) -> jax.Array:
    """Empty storage for the motifs of a melody of `length` steps: uint32 (length + 8, words)."""
    # Without the 8, equal steps of the melodies of a batch would fall into one set of the processor's cache.
    return jnp.zeros((length + 8, words(bar)), jnp.uint32)


def push(recent: jax.Array, action: jax.Array, bar: int) -> jax.Array:
    """The last `bar` events, packed uint32 (words,), after one more; the newest is lowest in the last."""
    chex.assert_rank([recent, action], [1, 0])
    first_word = bar - EVENTS * (len(recent) - 1)  # events in the first word
    bits = np.array([BITS * first_word] + [BITS * EVENTS] * (len(recent) - 1), np.uint32)
    entering = jnp.append(recent[1:] >> (BITS * (EVENTS - 1)), action.astype(jnp.uint32))
    return (recent << BITS | entering) & ((np.uint32(1) << bits) - np.uint32(1))


def event(recent: jax.Array, age: int) -> jax.Array:
    """The packed event `age` steps before the newest, int32 ()."""
    chex.assert_rank(recent, 1)
    word, place = divmod(age, EVENTS)
    return (recent[len(recent) - 1 - word] >> (BITS * place) & EVENT).astype(jnp.int32)


def pitches(recent: jax.Array, bar: int) -> jax.Array:
    """Number of different pitches among the last `bar` events, int32 ()."""
    chex.assert_rank(recent, 1)
    low = high = jnp.uint32(0)
    for age in range(bar):
        token = event(recent, age)
        bit = jnp.uint32(1) << (token % 32).astype(jnp.uint32)
        low |= jnp.where(token < 32, bit, 0)
        high |= jnp.where(token < 32, 0, bit)
    low &= np.uint32(2**32 - (1 << RL_TUNER.first))  # special events are not pitches
    return (jax.lax.population_count(low) + jax.lax.population_count(high)).astype(jnp.int32)


def first_end(motifs: jax.Array, past: jax.Array, recent: jax.Array, time: jax.Array) -> jax.Array:
    """The number of steps when a motif first ended, int32 (); 0 if it is new.

    Args:
        motifs: the table.
        past: uint32 (steps, words), the packed events after each step that ended a new motif.
        recent: the motif.
        time: steps before it ended.

    """
    chex.assert_rank([motifs, past, recent, time], [2, 2, 1, 0])
    bucket, tag = _hash(motifs, recent)
    slots = motifs[bucket]
    same = (slots >> 16 == tag) & (slots > 0)
    ends = (slots & LONGEST).astype(jnp.int32)
    candidates = jnp.stack([jnp.where(same, ends, LONGEST).min(), jnp.where(same, ends, 0).max()])
    # Without a candidate the row that is written next is read: it is needed in the cache anyway.
    exists = candidates[1] > 0
    row = jnp.where(exists, candidates - 1, time)
    equal = exists & (past[row] == recent).all(axis=1)
    return jnp.where(equal, candidates, 0).max()


def insert(motifs: jax.Array, recent: jax.Array, end: jax.Array, new: jax.Array) -> jax.Array:
    """The table with a motif that ended after `end` steps; unchanged unless `new`, bool ()."""
    chex.assert_rank([motifs, recent, end, new], [2, 1, 0, 0])
    bucket, tag = _hash(motifs, recent)
    used = (motifs[bucket] > 0).sum()
    # A slot beyond the bucket is dropped: nothing is written and the table is not copied.
    slot = jnp.where(new, used, WAYS)
    return motifs.at[bucket, slot].set(tag << 16 | end.astype(jnp.uint32), mode="drop")


def _hash(motifs: jax.Array, recent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A motif's bucket and its tag of 16 bits."""
    mixed = jnp.uint32(0x243F6A88)
    for word in recent:
        mixed = (mixed ^ word) * np.uint32(0x9E3779B1)
        mixed = mixed ^ mixed >> 15
    mixed = mixed * np.uint32(0xC2B2AE3D)
    mixed = mixed ^ mixed >> 16
    return (mixed % len(motifs)).astype(jnp.int32), mixed >> 16
