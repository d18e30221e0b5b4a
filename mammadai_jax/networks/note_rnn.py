"""The Note RNN of Jaques et al. 2017: one-hot tokens into one layer of LSTM cells, logits out.

Its only input is the last token: neither the time nor earlier tokens. The composer is the better network;
this is the one of RL Tuner's published tables. Both have the same interface.
"""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.networks.lstm import lstm_cell, unroll
from mammadai_jax.networks.mlp import Output


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
        """The token that may precede a melody's first one: an input of zeros, which resets the state."""
        return self.size

    def setup(self):
        """Make the matrices, and a value head, which the original does not have."""
        uniform = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        self.kernel = self.param("kernel", uniform, (self.size + self.width, 4 * self.width))
        self.bias = self.param("bias", nn.initializers.zeros, (4 * self.width,))
        self.logits_head = nn.Dense(self.size)
        self.value_head = nn.Dense(1, kernel_init=nn.initializers.zeros)

    def _one_hot(self, tokens):
        # a product with one-hot rows instead of a look-up: XLA's gather on a CPU takes twice as long
        return jax.nn.one_hot(tokens, self.size)

    def _heads(self, hidden) -> Output:
        return Output(self.logits_head(hidden), self.value_head(hidden)[..., 0])

    def __call__(self, tokens, times, condition=None, deterministic: bool = True) -> Output:
        """Whole melodies: tokens int (T, B) -> Output (T, B, ...); the other arguments are unused."""
        del times, condition, deterministic
        chex.assert_rank(tokens, 2)
        keep = (tokens != self.start)[..., None].astype(jnp.float32)
        inputs, recurrent = self.kernel[: self.size], self.kernel[self.size :]
        return self._heads(unroll(self._one_hot(tokens) @ inputs + self.bias, keep, recurrent))

    def step(self, carry, token, time, condition=None) -> tuple[Output, Any]:
        """One note: token int (B,) -> Output (B, ...), carry; the other arguments are unused."""
        del time, condition
        chex.assert_rank(token, 1)
        hidden, cell = (part * (token != self.start)[:, None] for part in carry)
        gates = jnp.concatenate([self._one_hot(token), hidden], axis=-1) @ self.kernel + self.bias
        hidden, cell = lstm_cell(cell, gates)[:2]
        return self._heads(hidden), (hidden, cell)

    def initial_carry(self, batch: int) -> tuple[jax.Array, jax.Array]:
        """Zero outputs and cells, each (B, width)."""
        zero = jnp.zeros((batch, self.width), jnp.float32)
        return zero, zero
