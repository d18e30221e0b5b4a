"""The bi-axial LSTM (Johnson 2017; Kotecha 2018, Bach2Bach): one LSTM along time, one along pitch.

A frame has one decision for each pitch, from low to high: SILENT, SUSTAIN or ONSET. The LSTM along time has
the same weights for every pitch; its input is the kernel of Young and Kotecha (2017), 80 features of a pitch
and its surroundings in the frame before. The LSTM along pitch reads the time LSTM's output and the state that
was decided for the pitch just below. But for two kinds of features, the number and the class of a pitch,
moving a piece by a semitone moves the logits.

The interface is that of `Composer`: decision n is of pitch n % P in frame n // P. A row begins with the first
decision of a frame, and so does each piece in it; the rows of a step are at the same pitch.
"""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.networks.frames import by_frame, frames_before
from mammadai_jax.networks.lstm import LSTM
from mammadai_jax.networks.mlp import Output

SILENT, SUSTAIN, ONSET = range(3)
VICINITY = 12  # semitones to each side
ABSOLUTE = 13  # features that depend on where a pitch is: the first ones


def kernel_features(states: jax.Array, sixteenths: jax.Array, lowest: int) -> jax.Array:
    """The 80 features of each pitch, of the states of a frame.

    In this order: the MIDI number over 128; its pitch class (12); whether each pitch from 12 semitones below
    to 12 above sounds, and whether it begins (50); how many pitches sound that are i semitones above, modulo
    an octave, i = 0..11 (12); the place in a bar of 16 sixteenths in binary digits, the lowest first (4); and
    zero.

    Args:
        states: int (..., P), SILENT, SUSTAIN or ONSET.
        sixteenths: int (...), the time of the frame that is decided.
        lowest: MIDI number of the lowest pitch.

    Returns:
        float32 (..., P, 80).

    """
    chex.assert_equal_shape_prefix([states, sixteenths], sixteenths.ndim)
    pitches = lowest + jnp.arange(states.shape[-1])
    own = jnp.concatenate([pitches[:, None] / 128, jax.nn.one_hot(pitches % 12, 12)], axis=-1)
    digits = (sixteenths[..., None] >> jnp.arange(4)) & 1
    digits = jnp.pad(digits, ((0, 0),) * sixteenths.ndim + ((0, 1),)).astype(jnp.float32)
    everywhere = lambda row, last: jnp.broadcast_to(row, (*states.shape, last))
    return jnp.concatenate(
        [
            everywhere(own, ABSOLUTE),
            _vicinity(jnp.stack([states > SILENT, states == ONSET], axis=-1).astype(jnp.float32)),
            _relative_classes((states > SILENT).astype(jnp.float32)),
            everywhere(digits[..., None, :], 5),
        ],
        axis=-1,
    )


def _vicinity(bits):
    """Of bits (..., P, 2) those of the pitches around each, (..., P, 50)."""
    pitches = bits.shape[-2]
    padded = jnp.pad(bits, ((0, 0),) * (bits.ndim - 2) + ((VICINITY, VICINITY), (0, 0)))
    places = jnp.arange(pitches)[:, None] + jnp.arange(2 * VICINITY + 1)
    return padded[..., places, :].reshape(*bits.shape[:-1], -1)


def _relative_classes(sounding):
    """How many of (..., P) sound at each distance modulo an octave from each pitch, (..., P, 12)."""
    pitches = jnp.arange(sounding.shape[-1])
    distance = jax.nn.one_hot((pitches[None] - pitches[:, None]) % 12, 12)
    return jnp.einsum("...q,pqi->...pi", sounding, distance)


class BiaxialLSTM(nn.Module):
    """Logits of the three states of a pitch.

    Attributes:
        pitches: how many (P).
        lowest: MIDI number of the lowest.
        steps_per_quarter: frames a quarter note: 1, 2 or 4.
        time_width: cells of each layer along time.
        note_width: cells of each layer along pitch.
        num_layers: layers along each axis.
        dropout: rate on the layers' outputs while training (a "dropout" rng is then needed).
        body: "lstm".
        attention_window: unused, as in `LSTM`.
        dtype: of the LSTMs' matrix products.

    """

    pitches: int = 78
    lowest: int = 24
    steps_per_quarter: int = 4
    time_width: int = 200
    note_width: int = 100
    num_layers: int = 2
    dropout: float = 0.0
    body: str = "lstm"
    attention_window: int = 0
    dtype: Any = jnp.float32

    @property
    def size(self) -> int:
        """Tokens in the alphabet."""
        return 3

    @property
    def start(self) -> int:
        """The token that precedes a piece's first one."""
        return self.size

    def setup(self):
        """Make the layers and heads."""
        layers = lambda width: [LSTM(width, 1, 1, 0, 0.0, self.dtype) for _ in range(self.num_layers)]
        self.time_layers, self.note_layers = layers(self.time_width), layers(self.note_width)
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        self.logits_head = nn.Dense(self.size, kernel_init=small)
        self.value_head = nn.Dense(1, kernel_init=nn.initializers.zeros)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, tokens, times, condition=None, deterministic: bool = True) -> Output:
        """Whole pieces: tokens, times int (N, B) -> Output (N, B, ...); the condition is unused."""
        del condition
        chex.assert_rank([tokens, times], 2)
        chex.assert_equal_shape([tokens, times])
        rows, frame_times = by_frame(tokens, self.pitches), by_frame(times, self.pitches)[..., 0]
        starts, batch = rows[..., 0] == self.start, tokens.shape[1]
        frames = frames_before(tokens, self.pitches, SILENT)
        features = self._kernel(frames, starts, frame_times)
        repeated = jnp.repeat(starts, self.pitches, axis=1)
        hidden = self._run(
            self.time_layers, features.reshape(len(frames), -1, features.shape[-1]), repeated, deterministic
        )
        below = jnp.where(jnp.arange(self.pitches) == 0, SILENT, rows)
        inputs = self._note_inputs(hidden.reshape(*rows.shape, -1), below)
        inputs = inputs.reshape(-1, *inputs.shape[2:]).swapaxes(0, 1)
        first = jnp.broadcast_to(jnp.arange(self.pitches)[:, None] == 0, inputs.shape[:2])
        hidden = self._run(self.note_layers, inputs, first, deterministic)
        hidden = hidden.reshape(self.pitches, len(rows), batch, -1).swapaxes(0, 1)
        return self._heads(hidden.reshape(-1, batch, hidden.shape[-1])[: len(tokens)])

    def _kernel(self, frames, starts, times):
        """Features (..., P, 80) of the frames (..., P) before; silence before a piece."""
        frames = jnp.where(starts[..., None], SILENT, frames)
        sixteenths = times // self.pitches * 4 // self.steps_per_quarter
        return kernel_features(frames, sixteenths, self.lowest)

    def _note_inputs(self, hidden, below):
        """The time LSTM's output (..., width), and whether the pitch below sounds and begins."""
        bits = jnp.stack([below > SILENT, below == ONSET], axis=-1).astype(hidden.dtype)
        return jnp.concatenate([hidden, bits], axis=-1)

    def _run(self, layers, hidden, starts, deterministic):
        for layer in layers:
            hidden = self.drop(layer(hidden, starts, True), deterministic=deterministic)
        return hidden

    def _heads(self, hidden) -> Output:
        hidden = hidden.astype(jnp.float32)
        return Output(self.logits_head(hidden), self.value_head(hidden)[..., 0])

    def step(self, carry, token, time, condition=None) -> tuple[Output, Any]:
        """One decision: token, time int (B,) -> Output (B, ...), carry; the condition is unused."""
        del condition
        chex.assert_rank([token, time], 1)
        place = time[0] % self.pitches
        carry = carry | {"decided": carry["decided"].at[:, place - 1].set(token)}
        carry = nn.cond(
            place == 0,
            lambda network, carry: network._next_frame(carry, time),
            lambda network, carry: carry,
            self,
            carry,
        )
        hidden = jax.lax.dynamic_index_in_dim(carry["hidden"], place, axis=1, keepdims=False)
        hidden = self._note_inputs(hidden, jnp.where(place == 0, SILENT, token))
        first = jnp.full(token.shape, place == 0)
        hidden, notes = self._advance(self.note_layers, carry["notes"], hidden, first)
        return self._heads(hidden), carry | {"notes": notes}

    def _next_frame(self, carry, times):
        """The carry after the last decision of a frame."""
        starts = carry["decided"][:, -1] == self.start
        features = self._kernel(carry["decided"], starts, times)
        rows = features.reshape(-1, features.shape[-1])
        hidden, along = self._advance(self.time_layers, carry["time"], rows, jnp.repeat(starts, self.pitches))
        return carry | {"time": along, "hidden": hidden.reshape(*features.shape[:2], -1)}

    def _advance(self, layers, carry, hidden, starts):
        after = []
        for layer, own in zip(layers, carry, strict=True):
            hidden, own = layer.step(own, hidden, starts)
            after.append(own)
        return hidden, tuple(after)

    def initial_carry(self, batch: int):
        """The carry before the first decision of `batch` pieces.

        The layers' outputs and cells along "time" (B * P, width) and along the "notes" of a frame (B, width),
        the time LSTM's "hidden" output (B, P, width), and the last P states "decided" (B, P).
        """
        pair = lambda rows, width: (jnp.zeros((rows, width), self.dtype), jnp.zeros((rows, width)))
        layers = lambda rows, width: ((pair(rows, width),),) * self.num_layers
        return {
            "time": layers(batch * self.pitches, self.time_width),
            "notes": layers(batch, self.note_width),
            "hidden": jnp.zeros((batch, self.pitches, self.time_width), self.dtype),
            "decided": jnp.full((batch, self.pitches), SILENT, jnp.int32),
        }

    def extend_carry(self, carry):
        """The carry as it is: it does not depend on the attention window."""
        return carry
