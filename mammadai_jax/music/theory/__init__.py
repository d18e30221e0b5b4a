# pyright: reportCallIssue=false
# (flax adds the constructors of its dataclasses)
"""The music theory of RL Tuner (Jaques et al. 2017): nine rules that reward a melody note by note.

A rule is a pure function `(state, action, config) -> reward`, float32 (), of the melody so far and the next
token of the alphabet `rl_tuner`. The rewards equal those of the released program (magenta/models/rl_tuner).
`advance` appends a note to the state; a step costs the same at note 10 and at note 10,000. Everything is
unbatched and works under jit, vmap and scan.

FURTHER has rules of meter, phrase and cadence. Custom rules can be added to the nine, or replace them, and
are weighted by name:

    def no_middle_c(state, action, config):
        return jnp.where(action == 14, -1.0, 0.0)

    rules = {**RULES, "no_middle_c": no_middle_c}
    total, each = reward(state, action, config, {"key": 2.0}, rules)
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mammadai_jax.music import rewards
from mammadai_jax.music.theory.further import FURTHER
from mammadai_jax.music.theory.melody import (
    SIZE,
    Config,
    Labels,
    State,
    advance,
    check_size,
    in_key,
    initial,
    token,
)
from mammadai_jax.music.theory.rules import RULES, Rule

__all__ = [
    "FURTHER",
    "RULES",
    "Config",
    "Labels",
    "Rule",
    "State",
    "advance",
    "check_size",
    "in_key",
    "initial",
    "reward",
    "score",
]

GROUP = 1024  # melodies scored at once, because the motif tables of more long ones would fill the memory


def reward(
    state: State,
    action: jax.Array,
    config: Config,
    weights: Mapping[str, float | jax.Array] | None = None,
    rules: Mapping[str, Rule] = RULES,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The reward of the next note: the weighted sum (), and each rule's own reward () by name.

    `weights` by name may be traced; the default weight is 1. ValueError for a weight without a rule.
    """
    return rewards.weighted(state, token(action), config, weights, rules)


def score(
    tokens: Any, config: Config | None = None, rules: Mapping[str, Rule] = RULES
) -> dict[str, jax.Array]:
    """Each rule's reward for each note of whole melodies, {rule name: float32 (N, T)}.

    Args:
        tokens: integers (N, T) of the alphabet `rl_tuner`.
        config: of the rules; by default that of the released program, for melodies of T steps.
        rules: by name.

    Raises:
        ValueError: if tokens are not (N, T), are outside the alphabet, or are longer than config.length.

    """
    if jnp.ndim(tokens) != 2 or not jnp.shape(tokens)[1]:
        raise ValueError(
            f"tokens should be (melodies, steps) with a step or more, got shape {jnp.shape(tokens)}"
        )
    config = Config(length=jnp.shape(tokens)[1]) if config is None else config
    if jnp.shape(tokens)[1] > config.length:
        raise ValueError(f"melodies of {jnp.shape(tokens)[1]} steps are longer than config.length")
    rewards.refuse_other(tokens, SIZE, "rl_tuner")
    return rewards.scored(_score, tokens, config, rules=rules)


@functools.partial(jax.jit, static_argnames="rules")
def _score(tokens, config, rules):
    def note(state, action):
        return advance(state, action, config), reward(state, action, config, rules=dict(rules))[1]

    melody = lambda row: jax.lax.scan(note, initial(config), row)[1]
    return jax.lax.map(melody, tokens, batch_size=GROUP)
