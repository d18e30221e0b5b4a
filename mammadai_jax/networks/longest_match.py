"""Where a melody ran before as it has just now, and what followed there.

Tunes repeat themselves, not only by the bar. Of all distances up to a limit, the one at which the melody has
repeated itself for the most steps is found, the nearest of several, as in prediction by partial matching
(Cleary & Witten 1984). Tokens are those before the ones to be foretold, as everywhere in the composer.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

KINDS = 8  # of length: 0, 1 to 2, 3 to 6, 7 to 14, ..., 127 and more


def find(tokens: jax.Array, starts: jax.Array, limit: int, none: int) -> tuple[jax.Array, jax.Array]:
    """What followed the longest match at each step of whole melodies, and its length.

    Args:
        tokens: int32 (T, B).
        starts: bool (T, B), where a melody starts; what lies before does not match.
        limit: the largest distance.
        none: the token where nothing matches.

    Returns:
        Tokens and lengths in steps, int32 (T, B).

    """
    chex.assert_equal_shape([tokens, starts])
    batch = tokens.shape[1]

    def advance(carry, now):
        (recent, lengths), (token, start) = carry, now
        recent = remember(recent, token, start, none)
        lengths = lengthen(lengths, recent, start)
        return (recent, lengths), pick(lengths, recent, none)

    begin = jnp.full((batch, limit + 1), none, jnp.int32), jnp.zeros((batch, limit), jnp.int32)
    return jax.lax.scan(advance, begin, (tokens, starts))[1]


def remember(recent: jax.Array, token: jax.Array, starts: jax.Array, none: int) -> jax.Array:
    """The last tokens, int32 (B, H), after one more (B,); `none` everywhere where a melody starts."""
    chex.assert_rank([recent, token, starts], [2, 1, 1])
    return jnp.where(starts[:, None], none, jnp.concatenate([recent[:, 1:], token[:, None]], axis=1))


def lengthen(lengths: jax.Array, recent: jax.Array, starts: jax.Array) -> jax.Array:
    """For how many steps each distance has matched, int32 (B, limit), after one more token.

    `recent` (B, limit + 1 or more) are the last tokens, that one included.
    """
    chex.assert_rank([lengths, recent, starts], [2, 2, 1])
    before = recent[:, -1 - lengths.shape[1] : -1][:, ::-1]
    return jnp.where((before == recent[:, -1:]) & ~starts[:, None], lengths + 1, 0)


def pick(lengths: jax.Array, recent: jax.Array, none: int) -> tuple[jax.Array, jax.Array]:
    """What followed the longest match, and its length, int32 (B,)."""
    chex.assert_rank([lengths, recent], [2, 2])
    nearest = lengths.argmax(axis=1)[:, None]
    followed = jnp.take_along_axis(recent[:, ::-1], nearest, axis=1)[:, 0]
    longest = lengths.max(axis=1)
    return jnp.where(longest > 0, followed, none), longest


def kind(length: jax.Array) -> jax.Array:
    """Lengths (...) by their order of magnitude, int32 (...) in 0..KINDS - 1."""
    chex.assert_type(length, int)
    return (length[..., None] + 1 >= 2 ** jnp.arange(1, KINDS)).sum(axis=-1)
