# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
# (flax adds `replace` and the constructors of its dataclasses)
"""A melody alone, rewarded note by note by written rules of music theory (Jaques et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from mammadai_jax.environments.base import Params
from mammadai_jax.environments.rl_tuner import MelodyState, RLTuner
from mammadai_jax.music import theory
from mammadai_jax.music.notes import MAGENTA, RL_TUNER


@struct.dataclass
class TheoryState(MelodyState):
    """State of `theory`: that of `rl_tuner`, and `melody`, what the rules need of the melody so far."""

    melody: theory.State


class Theory(RLTuner):
    """`rl_tuner` with the rules' weighted sum as reward; each rule's own is in `info["rules"]` by name.

    The alphabet follows the labels: `rl_tuner` for "released", `magenta` for "corrected".

    The rules know where a piece ends from `config.length`, which is max_steps_in_episode of the default
    params. Params may still say otherwise: an episode that ends before goes without the rewards of the end,
    and of one that goes on, motifs beyond `config.length` are not remembered.

    Args:
        config: what the rules ask for.
        weights: of rules by name; a rule without one weighs 1.
        rules: by name; your own go beside the nine, or in their place.

    Raises:
        ValueError: for the weight of no rule.

    """

    name = "theory"

    def __init__(
        self,
        config: theory.Config | None = None,
        weights: Mapping[str, float] | None = None,
        rules: Mapping[str, theory.Rule] = theory.RULES,
    ):
        super().__init__(lambda state, action, after: self.rule_rewards(state, action)[0])
        self.config = theory.Config() if config is None else config
        self.weights, self.rules = dict(weights or {}), dict(rules)
        self.alphabet = MAGENTA if self.config.labels == "corrected" else RL_TUNER
        start = self.initial(None, self.default_params)
        jax.eval_shape(
            lambda action: self.rule_rewards(start, action), jnp.int32(0)
        )  # raises for weights without a rule

    @property
    def default_params(self) -> Params:
        """The length is that of the rules' config."""
        return Params(max_steps_in_episode=self.config.length)

    def check_size(self, size: int) -> None:
        """ValueError for a network whose tokens the rules do not know."""
        theory.check_size(size)

    def rule_rewards(self, state: TheoryState, action: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The rules' rewards of the next note, int (): the weighted sum (), and each rule's () by name."""
        chex.assert_rank(action, 0)
        return theory.reward(state.melody, action, self.config, self.weights, self.rules)

    def initial(self, key, params) -> TheoryState:
        """The state before the first note."""
        start = super().initial(key, params)
        return TheoryState(time=start.time, token=start.token, melody=theory.initial(self.config))

    def advance(self, state, action, params) -> TheoryState:
        """The state after one more note, also of the rules."""
        melody = theory.advance(state.melody, action, self.config)
        return super().advance(state, action, params).replace(melody=melody)

    def step_env(self, key, state, action, params) -> Any:
        """As of any environment, with each rule's reward in `info["rules"]`."""
        *rest, info = super().step_env(key, state, action, params)
        return *rest, {**info, "rules": self.rule_rewards(state, action)[1]}
