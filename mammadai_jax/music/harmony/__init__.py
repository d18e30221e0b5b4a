# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
# (flax adds `replace` and the constructors of its dataclasses)
"""Rules of harmony for pieces of several voices, one decision after another.

A rule is a pure function `(state, action, config) -> reward`, float32 (), of the piece so far and the next
token of the alphabet `voices_hold` (or `voices`). Most give minus the number of events that the decision
completes; `cadence` and `final_tonic` give +1. `advance` appends a decision to the state; a step costs the
same at decision 10 and at decision 10,000. Everything is unbatched and works under jit, vmap and scan.

Custom rules can be added, or replace these, and are weighted by name:

    def no_silence(state, action, config):
        return jnp.where(action == 0, -1.0, 0.0)

    rules = {**RULES, "no_silence": no_silence}
    total, each = reward(state, action, config, {"crossing": 2.0}, rules)

`view` and `pairs` give such a rule the frame as the decision leaves it, and the decided voice's pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from mammadai_jax.music import rewards
from mammadai_jax.music.harmony import chords, motion
from mammadai_jax.music.harmony.voices import (
    SIZE,
    Config,
    Pairs,
    State,
    View,
    advance,
    initial,
    pairs,
    places,
    ranges,
    token,
    view,
)

__all__ = [
    "RULES",
    "Config",
    "Pairs",
    "Rule",
    "State",
    "View",
    "advance",
    "initial",
    "pairs",
    "places",
    "ranges",
    "reward",
    "score",
    "token",
    "view",
]

Rule = Callable[[State, jax.Array, Config], jax.Array]

RULES: dict[str, Rule] = {
    "parallel_fifths": motion.parallel_fifths,
    "parallel_octaves": motion.parallel_octaves,
    "contrary_fifths": motion.contrary_fifths,
    "contrary_octaves": motion.contrary_octaves,
    "hidden_fifths": motion.hidden_fifths,
    "hidden_octaves": motion.hidden_octaves,
    "crossing": motion.crossing,
    "overlap": motion.overlap,
    "spacing": motion.spacing,
    "voice_ranges": motion.voice_ranges,
    "bad_leaps": motion.bad_leaps,
    "wide_leaps": motion.wide_leaps,
    "unresolved_dissonance": chords.unresolved_dissonance,
    "unjustified_dissonance": chords.unjustified_dissonance,
    "doubled_leading_tone": chords.doubled_leading_tone,
    "unresolved_sevenths": chords.unresolved_sevenths,
    "repeated_chords": chords.repeated_chords,
    "cadence": chords.cadence,
    "final_tonic": chords.final_tonic,
}


def reward(
    state: State,
    action: jax.Array,
    config: Config,
    weights: Mapping[str, float | jax.Array] | None = None,
    rules: Mapping[str, Rule] = RULES,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The reward of the next decision: the weighted sum (), and each rule's own reward () by name.

    `weights` by name may be traced; the default weight is 1. ValueError for a weight without a rule.
    """
    return rewards.weighted(state, token(action), config, weights, rules)


def score(
    tokens: Any,
    config: Config | None = None,
    rules: Mapping[str, Rule] = RULES,
    *,
    frames: Any = None,
    tonic: Any = None,
    minor: Any = None,
) -> dict[str, jax.Array]:
    """Each rule's reward for whole pieces, {rule name: float32 (N,)}.

    Args:
        tokens: integers (N, T, V) of the alphabet `voices_hold` or `voices`.
        config: of the rules; by default for pieces of T frames and V voices.
        rules: by name.
        frames: of each piece, integers (N,), at most T; what follows is padding. T by default.
        tonic: pitch class of each piece's tonic, integers (N,); the config's by default.
        minor: whether each piece is in minor, bool (N,); the config's by default.

    Raises:
        ValueError: if tokens are not (N, T, V), or are outside the alphabet, or if frames are not 1 to T.

    """
    shape = jnp.shape(tokens)
    if len(shape) != 3 or not shape[1] or not shape[2]:
        raise ValueError(f"tokens should be (pieces, frames, voices) with a frame or more, got shape {shape}")
    config = Config(voices=shape[2], frames=shape[1]) if config is None else config
    if shape[2] != config.voices:
        raise ValueError(f"tokens have {shape[2]} voices, the config {config.voices}")
    rewards.refuse_other(tokens, SIZE, "voices_hold")
    if not isinstance(frames, Tracer | None) and not np.isin(frames, np.arange(1, shape[1] + 1)).all():
        raise ValueError(f"frames of pieces in (pieces, {shape[1]}, voices) should be 1 to {shape[1]}")
    given = zip((shape[1], config.tonic, config.minor), (frames, tonic, minor), strict=True)
    of_pieces = [jnp.broadcast_to(default if x is None else x, shape[0]) for default, x in given]
    return rewards.scored(_score, tokens, *of_pieces, config, rules=rules)


@functools.partial(jax.jit, static_argnames="rules")
def _score(tokens, frames, tonic, minor, config, rules):
    def decide(carry, action):
        state, totals = carry
        counts = state.time < state.frames * config.voices
        each = reward(state, action, config, rules=dict(rules))[1]
        totals = {name: totals[name] + jnp.where(counts, value, 0.0) for name, value in each.items()}
        return (advance(state, action, config), totals), None

    def piece(rows, frames, tonic, minor):
        state = initial(config.replace(tonic=tonic, minor=minor)).replace(frames=frames.astype(jnp.int32))
        decisions = rows[:, np.array(config.decision_order)].reshape(-1)
        totals = {name: jnp.float32(0) for name, _ in rules}
        return jax.lax.scan(decide, (state, totals), decisions)[0][1]

    return jax.vmap(piece)(tokens, frames, tonic, minor)
