"""The composer's recurrent body. Its backward pass is written by hand: see `unroll`."""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.networks.kernels.products import (
    dot_general,
    gradient_of_kernel,
    gradient_of_rows,
    multiply,
)
from mammadai_jax.networks.kernels.sigmoid import sigmoid


class LSTM(nn.Module):
    """Layers of LSTM cells, with the gates in the order i, j, f, o and the forget gate's bias raised by one.

    c' = sigmoid(f + 1) c + sigmoid(i) tanh(j);  h' = sigmoid(o) tanh(c')

    (Zaremba et al. 2014, as in Magenta's Note RNN.) The input products of a layer are one large product
    over all steps, and so are the weights' gradients; only the recurrent product stays in the scan.

    Attributes:
        width: units a layer.
        num_layers: how many.
        num_heads, attention_window: unused; all bodies have the same arguments.
        dropout: rate on the inputs of the layers and on the output.
        dtype: of the matrix products.

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
    def extend_carry(composer, carry):
        """The carry as it is: it does not depend on the attention window."""
        return carry

    def __call__(self, features, starts, deterministic):
        """Features (T, B, width), starts bool (T, B) -> hidden (T, B, width)."""
        hidden = features
        keep = ~starts[..., None]
        for layer in range(self.num_layers):
            hidden = self.drop(hidden, deterministic=deterministic)
            gates = self.inputs[layer](hidden)
            hidden = unroll(gates, keep.astype(gates.dtype), self.recurrent[layer].astype(self.dtype))
        return self.drop(hidden, deterministic=deterministic)

    def step(self, carry, features, starts):
        """One step: features (B, width) -> hidden (B, width), carry."""
        hidden, new_carry = features, []
        for layer, (output, cell) in enumerate(carry):
            weights = self.recurrent[layer].astype(self.dtype)
            output, cell, _ = _cell_step(output, cell, self.inputs[layer](hidden), ~starts[:, None], weights)
            new_carry.append((output, cell))
            hidden = output
        return hidden, tuple(new_carry)


def lstm_cell(cell: jax.Array, gates: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One step of cells (B, H) with gates (B, 4H) -> outputs (B, H), cells (B, H), activations (B, 4H)."""
    chex.assert_rank([cell, gates], 2)
    i, j, f, o = jnp.split(gates.astype(jnp.float32), 4, axis=-1)
    i, j, f, o = sigmoid(i), jnp.tanh(j), sigmoid(f + 1.0), sigmoid(o)
    cell = f * cell + i * j
    return (o * jnp.tanh(cell)).astype(gates.dtype), cell, jnp.concatenate([i, j, f, o], axis=-1)


def _cell_step(hidden, cell, gates, keep, recurrent):
    """As `lstm_cell`, with gates (B, 4H) that lack the recurrent part.

    `keep` (B, 1) is zero where a melody starts and one elsewhere.
    """
    hidden, cell = hidden * keep.astype(hidden.dtype), cell * keep
    return lstm_cell(cell, gates + multiply(hidden, recurrent))


@jax.custom_vjp
def unroll(gates: jax.Array, keep: jax.Array, recurrent: jax.Array) -> jax.Array:
    """Outputs (T, B, H) of LSTM cells whose input products are gates (T, B, 4H).

    `keep` (T, B, 1) is zero where a melody starts and one elsewhere; recurrent is (H, 4H). The backward pass
    is written by hand, because automatic differentiation would compute the weights' gradient as a product in
    every step; here it is one product over all steps. That saves time on every platform.
    """
    chex.assert_rank([gates, keep, recurrent], [3, 3, 2])
    return _unroll_forward(gates, keep, recurrent)[0]


def _unroll_forward(gates, keep, recurrent):
    zero = jnp.zeros((gates.shape[1], recurrent.shape[0]), gates.dtype)

    def advance(carry, inputs):
        (hidden, cell), (gate, keep) = carry, inputs
        hidden, cell, activations = _cell_step(hidden, cell, gate, keep, recurrent)
        return (hidden, cell), (hidden, cell, activations)

    _, (hidden, cell, activations) = jax.lax.scan(advance, (zero, zero.astype(jnp.float32)), (gates, keep))
    return hidden, (hidden, cell, activations, keep, recurrent)


def _unroll_backward(saved, cotangent):
    """Backpropagation through time: the gradients for gates, keep (zero) and recurrent."""
    hidden, cell, activations, keep, recurrent = saved
    previous = lambda x: jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]) * keep.astype(x.dtype)
    previous_cell, previous_hidden = previous(cell), previous(hidden)

    def retreat(carry, inputs):
        d_hidden, d_cell = carry
        d_output, (i, j, f, o), cell, previous_cell, keep = inputs
        d_hidden = d_hidden + d_output
        tanh_cell = jnp.tanh(cell)
        d_cell = d_cell + d_hidden * o * (1 - tanh_cell**2)
        parts = (d_cell * j * i * (1 - i), d_cell * i * (1 - j**2), d_cell * previous_cell * f * (1 - f))
        d_gates = jnp.concatenate([*parts, d_hidden * tanh_cell * o * (1 - o)], axis=-1)
        d_gates = d_gates.astype(cotangent.dtype)
        carry = (gradient_of_rows(d_gates, recurrent) * keep).astype(jnp.float32), d_cell * f * keep
        return carry, d_gates

    zero = jnp.zeros_like(cell[0])
    gates = tuple(jnp.split(activations, 4, axis=-1))
    inputs = (cotangent, gates, cell, previous_cell, keep)
    _, d_gates = jax.lax.scan(retreat, (zero, zero), inputs, reverse=True)
    flat = lambda x: x.reshape(-1, x.shape[-1])
    return d_gates, jnp.zeros_like(keep), gradient_of_kernel(flat(previous_hidden), flat(d_gates))


unroll.defvjp(_unroll_forward, _unroll_backward)
