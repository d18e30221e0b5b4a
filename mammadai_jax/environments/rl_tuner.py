"""A melody alone, note by note (Jaques et al. 2017)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from mammadai_jax.environments.base import Environment
from mammadai_jax.music.notes import RL_TUNER


@struct.dataclass
class MelodyState:
    """State of `rl_tuner`: int32 `time` of the next note, `token` played last (38 before the first)."""

    time: jax.Array
    token: jax.Array


class RLTuner(Environment):
    """Two bars of 16ths over 38 classes: note-off, no-event and 36 pitches from MIDI 48 (Jaques et al. 2017).

    Observation, float32 (63,): the last token one-hot (39, the last place before the first note), the place
    in the bar one-hot (16) and the bar's number modulo 8 one-hot (8).
    """

    alphabet = RL_TUNER
    name = "rl_tuner"

    @property
    def observation_size(self) -> int:
        """Last token, place in the bar, bar."""
        return self.num_actions + 1 + 16 + 8

    def initial(self, key, params) -> MelodyState:
        """Nothing played yet."""
        del key, params
        return MelodyState(time=jnp.int32(0), token=jnp.int32(self.num_actions))

    def advance(self, state, action, params) -> MelodyState:
        """The state after one more note."""
        del params
        return state.replace(time=state.time + 1, token=action)

    def observe(self, state, params) -> jax.Array:
        """The observation of the class's docstring, float32 (observation_size,)."""
        del params
        tokens = self.num_actions + 1
        lit = state.token, tokens + state.time % 16, tokens + 16 + state.time // 16 % 8
        # one expression, which XLA fuses: concatenating three rows takes twice as long
        places = jnp.arange(self.observation_size)
        return ((places == lit[0]) | (places == lit[1]) | (places == lit[2])).astype(jnp.float32)
