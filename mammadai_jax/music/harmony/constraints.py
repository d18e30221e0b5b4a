"""What a voice may do next: its range, the order of the voices, and what is forbidden besides."""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from mammadai_jax.music.harmony.voices import SILENT, Config, State, places, ranges
from mammadai_jax.music.notes import VOICES_HOLD

FREE = -1  # in place of a given token


def allowed(
    state: State, given: jax.Array, config: Config, forbids: Callable[[jax.Array], jax.Array] | None = None
) -> jax.Array:
    """Which tokens the next decision may take: bool (A,), never all false.

    The voice sounds, within its range; it crosses no voice of its frame that is decided or given; and nothing
    else forbids the token. Where no token does all of that, first what is forbidden is given up, then the
    order of the voices.

    Args:
        state: before the decision.
        given: tokens int32 (V,) of the voices that are given in this frame, FREE for others.
        config: of the rules.
        forbids: token () -> bool ().

    """
    chex.assert_shape(given, (config.voices,))
    own, decided = places(state, config)
    voice, number = jnp.argmax(own), jnp.arange(config.voices)
    tokens = jnp.arange(config.alphabet.size)
    pitch = _pitch(tokens, state.pitch[voice])
    low, high = jnp.asarray(ranges(config.voices) if config.ranges is None else config.ranges)[voice]
    in_range = (pitch >= low) & (pitch <= high)
    others = jnp.where(decided, state.pitch, jnp.where(given == FREE, SILENT, _pitch(given, state.pitch)))
    sounding = (others > SILENT) & ~own
    floor = jnp.where(sounding & (number > voice), others, SILENT).max()
    ceiling = jnp.where(sounding & (number < voice), others, jnp.iinfo(jnp.int32).max).min()
    ordered = in_range & (pitch >= floor) & (pitch <= ceiling)
    best = ordered if forbids is None else ordered & ~jax.vmap(forbids)(tokens)
    return jnp.where(best.any(), best, jnp.where(ordered.any(), ordered, in_range))


def _pitch(tokens: jax.Array, before: jax.Array) -> jax.Array:
    """What tokens (...) sound, SILENT for silence, where `before` (...) sounded."""
    struck = jnp.where(tokens == VOICES_HOLD.silence, SILENT, tokens - VOICES_HOLD.first + VOICES_HOLD.lowest)
    return jnp.where(tokens == VOICES_HOLD.hold, before, struck)
