"""The composer's recurrent body, whose gradient is written out: see `recur`."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.networks.products import (
    dot_general,
    gradient_of_kernel,
    gradient_of_rows,
    multiply,
)


class LSTM(nn.Module):
    """Layers of LSTM cells: gates in order i, j, f, o, the forget gate's bias raised by one.

    c' = sigmoid(f + 1) c + sigmoid(i) tanh(j);  h' = sigmoid(o) tanh(c')

    (Zaremba et al. 2014, as in Magenta's Note RNN.) The input products of a layer are one large product
    over all steps, and so are the weights' gradients; only the recurrent product stays in the scan.
    """

    width: int
    num_layers: int
    num_heads: int
    attention_window: int
    dropout: float
    dtype: Any

    def setup(self):
        """Make the cells' matrices."""
        self.inputs = [
            nn.Dense(4 * self.width, dtype=self.dtype, dot_general=dot_general)
            for _ in range(self.num_layers)
        ]
        self.recurrent = [
            self.param(f"recurrent_{i}", nn.initializers.orthogonal(), (self.width, 4 * self.width))
            for i in range(self.num_layers)
        ]
        self.drop = nn.Dropout(self.dropout)

    @staticmethod
    def initial_carry(composer, batch: int):
        """Zero outputs and cells: per layer (h, c), each (B, width)."""
        zero = jnp.zeros((batch, composer.width), composer.dtype)
        return tuple((zero, zero.astype(jnp.float32)) for _ in range(composer.num_layers))

    @staticmethod
    def grown(composer, carry):
        """The carry as it is: it does not depend on the context."""
        return carry

    def __call__(self, features, starts, deterministic):
        """Features (T, B, width), starts bool (T, B) -> hidden (T, B, width)."""
        hidden = features
        keep = ~starts[..., None]
        for layer in range(self.num_layers):
            hidden = self.drop(hidden, deterministic=deterministic)
            gates = self.inputs[layer](hidden)
            hidden = recur(gates, keep.astype(gates.dtype), self.recurrent[layer].astype(self.dtype))
        return self.drop(hidden, deterministic=deterministic)

    def step(self, carry, features, starts):
        """One step: features (B, width) -> hidden (B, width), carry."""
        hidden, after = features, []
        for layer, before in enumerate(carry):
            weights = self.recurrent[layer].astype(self.dtype)
            output, cell = before
            output, cell, _ = _recur_step(output, cell, self.inputs[layer](hidden), ~starts[:, None], weights)
            after.append((output, cell))
            hidden = output
        return hidden, tuple(after)


def sigmoid(x):
    """1 / (1 + exp(-x)), in terms of tanh: on a CPU XLA takes two thirds of the time for that."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


def lstm_cell(cell, gates):
    """Outputs (B, H), cells (B, H), activations (B, 4H) after a step, of cells (B, H) and gates (B, 4H)."""
    i, j, f, o = jnp.split(gates.astype(jnp.float32), 4, axis=-1)
    i, j, f, o = sigmoid(i), jnp.tanh(j), sigmoid(f + 1.0), sigmoid(o)
    cell = f * cell + i * j
    return (o * jnp.tanh(cell)).astype(gates.dtype), cell, jnp.concatenate([i, j, f, o], axis=-1)


def _recur_step(hidden, cell, gates, keep, recurrent):
    """As lstm_cell, of gates (B, 4H) that lack the recurrent part.

    `keep` (B, 1) is zero where a melody starts and one elsewhere.
    """
    hidden, cell = hidden * keep.astype(hidden.dtype), cell * keep
    return lstm_cell(cell, gates + multiply(hidden, recurrent))


@jax.custom_vjp
def recur(gates: jax.Array, keep: jax.Array, recurrent: jax.Array) -> jax.Array:
    """Outputs (T, B, H) of LSTM cells whose input products are gates (T, B, 4H).

    `keep` (T, B, 1) is zero where a melody starts; recurrent is (H, 4H). The gradient is written out so that
    the weights' part of it is one product over all steps instead of one in each.
    """
    return _recur_forward(gates, keep, recurrent)[0]


def _recur_forward(gates, keep, recurrent):
    zero = jnp.zeros((gates.shape[1], recurrent.shape[0]), gates.dtype)

    def advance(carry, now):
        (hidden, cell), (gate, kept) = carry, now
        hidden, cell, activations = _recur_step(hidden, cell, gate, kept, recurrent)
        return (hidden, cell), (hidden, cell, activations)

    _, (hidden, cell, activations) = jax.lax.scan(advance, (zero, zero.astype(jnp.float32)), (gates, keep))
    return hidden, (hidden, cell, activations, keep, recurrent)


def _recur_backward(saved, outer):
    hidden, cell, activations, keep, recurrent = saved
    before = lambda x: jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]) * keep.astype(x.dtype)
    cell_before, hidden_before = before(cell), before(hidden)

    def retreat(carry, now):
        d_hidden, d_cell = carry
        d_outer, (i, j, f, o), cell, cell_before, keep = now
        d_hidden = d_hidden + d_outer
        squashed = jnp.tanh(cell)
        d_cell = d_cell + d_hidden * o * (1 - squashed**2)
        parts = (d_cell * j * i * (1 - i), d_cell * i * (1 - j**2), d_cell * cell_before * f * (1 - f))
        d_gates = jnp.concatenate([*parts, d_hidden * squashed * o * (1 - o)], axis=-1).astype(outer.dtype)
        carry = (gradient_of_rows(d_gates, recurrent) * keep).astype(jnp.float32), d_cell * f * keep
        return carry, d_gates

    zero = jnp.zeros_like(cell[0])
    gates = tuple(jnp.split(activations, 4, axis=-1))
    _, d_gates = jax.lax.scan(retreat, (zero, zero), (outer, gates, cell, cell_before, keep), reverse=True)
    flat = lambda x: x.reshape(-1, x.shape[-1])
    return d_gates, jnp.zeros_like(keep), gradient_of_kernel(flat(hidden_before), flat(d_gates))


recur.defvjp(_recur_forward, _recur_backward)
