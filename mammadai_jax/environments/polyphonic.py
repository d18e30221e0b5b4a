# pyright: reportCallIssue=false, reportAttributeAccessIssue=false
# (flax adds `replace` and the constructors of its dataclasses)
"""Several voices, decided one after another, rewarded by written rules of harmony."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mammadai_jax.environments.base import Environment, Params
from mammadai_jax.environments.rl_tuner import MelodyState
from mammadai_jax.music import harmony
from mammadai_jax.music.harmony.voices import SILENT
from mammadai_jax.music.notes import VOICES_HOLD

FREE = -1  # in `fixed`, a decision that is the agent's
HEIGHTS = VOICES_HOLD.pitches  # observed pitches are divided by it


@struct.dataclass
class PolyphonicParams(Params):
    """Params of `polyphonic`.

    Attributes:
        max_steps_in_episode: decisions; the piece has this many divided by the voices, in whole frames.
        tonic: pitch class of the tonic, 0..11.
        minor: whether the mode is minor.
        fixed: tokens int32 (frames, voices) that are given, as the soprano is in harmonisation, -1 where the
            agent decides. Beyond its frames, and where it has no token of the alphabet, the agent decides.

    """

    tonic: int | jax.Array = 0
    minor: bool | jax.Array = False
    fixed: Any = None


@struct.dataclass
class PolyphonicState(MelodyState):
    """State of `polyphonic`.

    `time` counts decisions and `token` is the last one, as networks over decisions expect. `piece` is what
    the rules need of the piece so far; `given` int32 the token fixed for the next decision, -1 without one.
    """

    piece: harmony.State
    given: jax.Array


class Polyphonic(Environment):
    """A piece of V voices on a grid: a step decides the token of one voice in one frame.

    The reward is the rules' weighted sum; each rule's own is in `info["rules"]` by name. Where `params.fixed`
    has a token it is played whatever the action, and `info["forced"]` is true: `state.token` is what was
    played. So a given soprano makes composing harmonisation, and every rule judges what sounds.

    Observation, float32 (27 V + V + steps_per_bar,): of each voice what it sounds in the frame before, and
    what is decided for it in this frame, both as pitch class one-hot (12) and height (1), zeros for silence
    and for what is not decided, and whether its last token was a hold; which voice is next, one-hot; the
    frame's place in the bar, one-hot.

    Args:
        config: what is composed and what the rules ask for.
        weights: of rules by name; a rule without one weighs 1.
        rules: by name; your own go beside those of music/harmony, or in their place.

    Raises:
        ValueError: for the weight of no rule.

    """

    name = "polyphonic"

    def __init__(
        self,
        config: harmony.Config | None = None,
        weights: Mapping[str, float] | None = None,
        rules: Mapping[str, harmony.Rule] = harmony.RULES,
    ):
        super().__init__(lambda state, action, after: self.rule_rewards(state, action)[0])
        self.config = harmony.Config() if config is None else config
        self.weights, self.rules = dict(weights or {}), dict(rules)
        self.alphabet = self.config.alphabet
        start = self.initial(None, self.default_params)
        jax.eval_shape(
            lambda action: self.rule_rewards(start, action), jnp.int32(0)
        )  # raises for weights without a rule

    @property
    def default_params(self) -> PolyphonicParams:
        """Length and key are the config's; every decision is free."""
        return PolyphonicParams(
            max_steps_in_episode=self.config.length,
            tonic=self.config.tonic,
            minor=self.config.minor,
            fixed=jnp.full((self.config.frames, self.config.voices), FREE, jnp.int32),
        )

    @property
    def observation_size(self) -> int:
        """Pitches and holds, next voice, place in the bar."""
        return 28 * self.config.voices + self.config.steps_per_bar

    def check_size(self, size: int) -> None:
        """ValueError for a network with another number of tokens than the alphabet has."""
        if size != self.num_actions:
            raise ValueError(
                f"the network has {size} tokens, and the alphabet {self.alphabet.name!r} {self.num_actions}: "
                "give a network of that alphabet"
            )

    def rule_rewards(
        self, state: PolyphonicState, action: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The rules' rewards of the next decision, int (): the weighted sum (), each rule's () by name."""
        chex.assert_rank(action, 0)
        return harmony.reward(state.piece, _played(state, action), self.config, self.weights, self.rules)

    def initial(self, key: Any, params) -> PolyphonicState:
        """The state before the first decision."""
        del key
        if jnp.ndim(params.fixed) != 2 or jnp.shape(params.fixed)[1] != self.config.voices:
            raise ValueError(
                f"fixed should be (frames, {self.config.voices}) tokens, got shape {jnp.shape(params.fixed)}"
            )
        piece = harmony.initial(self.config.replace(tonic=params.tonic, minor=params.minor))
        frames = jnp.asarray(params.max_steps_in_episode, jnp.int32) // self.config.voices
        return PolyphonicState(
            time=jnp.int32(0),
            token=jnp.int32(self.num_actions),
            piece=piece.replace(frames=frames),
            given=self._given(jnp.int32(0), params),
        )

    def begin(self, piece) -> PolyphonicState:
        """The state before the first decision, for `cloning.demonstrate`; all pieces begin alike."""
        del piece
        return self.initial(None, self.default_params)

    def advance(self, state, action, params) -> PolyphonicState:
        """The state after one more decision."""
        played = _played(state, jnp.asarray(action, jnp.int32))
        return state.replace(
            time=state.time + 1,
            token=played,
            piece=harmony.advance(state.piece, played, self.config),
            given=self._given(state.time + 1, params),
        )

    def _given(self, time: jax.Array, params) -> jax.Array:
        """The token that is fixed for a decision, -1 for none: int32 ()."""
        voices = self.config.voices
        voice = jnp.asarray(self.config.decision_order, jnp.int32)[time % voices]
        token = (
            jnp.asarray(params.fixed, jnp.int32).at[time // voices, voice].get(mode="fill", fill_value=FREE)
        )
        return jnp.where((token >= 0) & (token < self.num_actions), token, FREE)

    def observe(self, state, params) -> jax.Array:
        """The observation of the class's docstring, float32 (observation_size,)."""
        del params
        piece, config = state.piece, self.config
        own, decided = harmony.places(piece, config)
        before = jnp.where(decided, piece.before, piece.pitch)
        now = jnp.where(decided, piece.pitch, SILENT)
        place = np.arange(config.steps_per_bar) == state.time // config.voices % config.steps_per_bar
        pitches = jnp.concatenate([_seen(before), _seen(now), piece.held[:, None]], axis=1)
        return jnp.concatenate([pitches.ravel(), own, place]).astype(jnp.float32)

    def step_env(self, key, state, action, params) -> Any:
        """As of any environment, with each rule's reward in `info["rules"]`, and `info["forced"]`."""
        action = jnp.asarray(action, jnp.int32)
        *rest, info = super().step_env(key, state, action, params)
        info = {**info, "rules": self.rule_rewards(state, action)[1], "forced": state.given != FREE}
        return *rest, info


def _played(state: PolyphonicState, action: jax.Array) -> jax.Array:
    """The token that sounds: the given one, otherwise the action."""
    return jnp.where(state.given == FREE, action, state.given)


def _seen(pitch: jax.Array) -> jax.Array:
    """Pitches (V,) as pitch class one-hot and height, float32 (V, 13); zeros for silence."""
    height = jnp.clip(pitch - VOICES_HOLD.lowest + 1, 0, HEIGHTS) / HEIGHTS
    classes = (pitch[:, None] % 12 == np.arange(12)) & (pitch[:, None] > SILENT)
    return jnp.concatenate([classes, height[:, None]], axis=1)
