"""The Note RNN of Jaques et al. 2017: one-hot tokens into one layer of LSTM cells, logits out.

It is told neither the time nor anything that lies back; the composer is the better network, this is the one
that RL Tuner's published tables were made with. The interface is the composer's.
"""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.networks.composer import Output
from mammadai_jax.networks.lstm import lstm_cell, recur


class NoteRNN(nn.Module):
    """c' = sigmoid(f + 1) c + sigmoid(i) tanh(j);  h' = sigmoid(o) tanh(c'), of the last token and h.

    Attributes:
        size: tokens in the alphabet.
        width: LSTM cells.
    """

    size: int
    width: int = 100

    @property
    def start(self) -> int:
        """The token that may stand before a melody's first: an input of zeros, which forgets what was."""
        return self.size

    def setup(self):
        """Make the matrices, and a value head that the original has not."""
        uniform = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        self.kernel = self.param("kernel", uniform, (self.size + self.width, 4 * self.width))
        self.bias = self.param("bias", nn.initializers.zeros, (4 * self.width,))
        self.logits_head = nn.Dense(self.size)
        self.value_head = nn.Dense(1, kernel_init=nn.initializers.zeros)

    def _one_hot(self, tokens):
        # multiplied, not looked up, though most of it is zeros: XLA's gather on a CPU takes twice as long
        return jax.nn.one_hot(tokens, self.size)

    def _read(self, hidden) -> Output:
        return Output(self.logits_head(hidden), self.value_head(hidden)[..., 0])

    def __call__(self, tokens, times, condition=None, deterministic: bool = True) -> Output:
        """Read whole melodies: tokens int (T, B) -> Output (T, B, ...); the rest goes unused."""
        del times, condition, deterministic
        chex.assert_rank(tokens, 2)
        keep = (tokens != self.start)[..., None].astype(jnp.float32)
        inputs, recurrent = self.kernel[: self.size], self.kernel[self.size :]
        return self._read(recur(self._one_hot(tokens) @ inputs + self.bias, keep, recurrent))

    def step(self, carry, token, time, condition=None) -> tuple[Output, Any]:
        """Write one note: token int (B,) -> Output (B, ...), carry; the rest goes unused."""
        del time, condition
        chex.assert_rank(token, 1)
        hidden, cell = (part * (token != self.start)[:, None] for part in carry)
        gates = jnp.concatenate([self._one_hot(token), hidden], axis=-1) @ self.kernel + self.bias
        hidden, cell = lstm_cell(cell, gates)[:2]
        return self._read(hidden), (hidden, cell)

    def initial_carry(self, batch: int) -> tuple[jax.Array, jax.Array]:
        """Zero outputs and cells, each (B, width)."""
        zero = jnp.zeros((batch, self.width), jnp.float32)
        return zero, zero
