"""The composer: previous tokens and the time in, logits of the next token and a value out.

One interface for two bodies. Whole melodies are read at once, time-major, from their start:

    output = composer.apply(params, tokens, times, condition)            # (T, B) -> (T, B, ...)

and music is written note by note, carrying what the body remembers:

    carry = composer.initial_carry(batch)
    output, carry = composer.apply(params, carry, token, time, condition, method="step")   # (B,)

Both give the same numbers. The token fed at time t is the one played at t - 1, and `composer.start` (the
alphabet's size) before the first: a start token forgets whatever came before it, so several melodies
may follow one another in one row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

STEPS_PER_BAR = 16
BARS_COUNTED = 8
CLOSED = -1e9  # the logit of a place that attention may not look at: finite, so that gradients are


class Output(NamedTuple):
    """`logits` (..., size) of the next token; `value` (...) of the state."""

    logits: jax.Array
    value: jax.Array


class Composer(nn.Module):
    """Embeds tokens, times and an optional condition, runs a body over them, and reads the heads.

    Attributes:
        size: tokens in the alphabet.
        body: "lstm" or "transformer".
        width: units a layer; layers: how many.
        heads: attention heads (transformer).
        context: steps the transformer looks back.
        metre: whether the place in the bar and the bar's number modulo 8 are inputs.
        places: after how many steps the place repeats: a bar's, or a common multiple of several bars'.
        lookback: bars ago whose token at the same place is an input too, as in Magenta's Lookback RNN (Waite
            2016): tunes repeat themselves by the bar.
        dropout: rate on layer inputs and outputs while training (a "dropout" rng is then needed).
        dtype: of the matrix products; parameters, softmax and heads' outputs stay float32.
    """

    size: int
    body: str = "lstm"
    width: int = 128
    layers: int = 1
    heads: int = 4
    context: int = 256
    metre: bool = True
    places: int = STEPS_PER_BAR
    lookback: tuple[int, ...] = (1, 2, 4, 8)
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @property
    def start(self) -> int:
        """The token that stands before a melody's first."""
        return self.size

    def setup(self):
        """Make the parts; ValueError for a body that is not known."""
        if self.body not in BODIES:
            raise ValueError(f"body is one of {sorted(BODIES)}, not {self.body!r}")
        self.token_table = nn.Embed(self.size + 1, self.width, embedding_init=nn.initializers.normal(0.1))
        if self.metre:
            self.place_table = nn.Embed(self.places, self.width, embedding_init=nn.initializers.normal(0.1))
            self.bar_table = nn.Embed(BARS_COUNTED, self.width, embedding_init=nn.initializers.normal(0.1))
        self.lookback_tables = [
            nn.Embed(self.size + 1, self.width, embedding_init=nn.initializers.normal(0.1))
            for _ in self.lookback
        ]
        self.condition_layer = nn.Dense(self.width, use_bias=False, dtype=self.dtype)
        self.trunk = BODIES[self.body](
            self.width, self.layers, self.heads, self.context, self.dropout, self.dtype
        )
        self.logits_head = nn.Dense(
            self.size, kernel_init=nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        )
        self.value_head = nn.Dense(1, kernel_init=nn.initializers.zeros)

    def _embed(self, tokens, times, earlier, condition):
        features = self.token_table(tokens)
        for table, row in zip(self.lookback_tables, earlier, strict=True):
            features += table(row)
        if self.metre:
            features += self.place_table(times % self.places)
            features += self.bar_table((times // self.places) % BARS_COUNTED)
        if condition is not None:
            features += self.condition_layer(condition)
        return features.astype(self.dtype)

    def _read(self, hidden) -> Output:
        hidden = hidden.astype(jnp.float32)
        return Output(self.logits_head(hidden), self.value_head(hidden)[..., 0])

    def __call__(self, tokens, times, condition=None, deterministic: bool = True) -> Output:
        """Read whole melodies: tokens, times int (T, B), condition (B, C) or None -> Output (T, B, ...)."""
        return self._read(self.hidden(tokens, times, condition, deterministic))

    def hidden(self, tokens, times, condition=None, deterministic: bool = True):
        """What the body makes of whole melodies, (T, B, width), before the heads; arguments as above."""
        chex.assert_rank([tokens, times], 2)
        chex.assert_equal_shape([tokens, times])
        starts = tokens == self.start
        features = self._embed(tokens, times, self._earlier(tokens, starts), condition)
        return self.trunk(features, starts, deterministic)

    def _earlier(self, tokens, starts):
        """For each lookback the tokens (T, B) played at that distance before the next one; start if none."""
        segments = jnp.cumsum(starts, axis=0)
        rows = []
        for bars in self.lookback:
            distance = bars * STEPS_PER_BAR - 1
            earlier = _shift(tokens, distance, self.start)
            rows.append(jnp.where(_shift(segments, distance, -1) == segments, earlier, self.start))
        return rows

    def step(self, carry, token, time, condition=None) -> tuple[Output, Any]:
        """Write one note: token, time int (B,), condition (B, C) or None -> Output (B, ...), carry."""
        chex.assert_rank([token, time], 1)
        starts = token == self.start
        inner, history = carry
        if self.lookback:
            history = jnp.concatenate([history[:, 1:], token[:, None]], axis=1)
            history = jnp.where(starts[:, None], self.start, history)
        earlier = [history[:, -bars * STEPS_PER_BAR] for bars in self.lookback]
        hidden, inner = self.trunk.step(inner, self._embed(token, time, earlier, condition), starts)
        return self._read(hidden), (inner, history)

    def initial_carry(self, batch: int):
        """What is remembered before the first note of `batch` melodies: the body's carry, the last tokens."""
        history = jnp.full((batch, STEPS_PER_BAR * max(self.lookback, default=0)), self.start, jnp.int32)
        return BODIES[self.body].initial_carry(self, batch), history


def _shift(rows, distance, fill):
    """Rows (T, B) later by a distance, filled at the start."""
    return jnp.pad(rows, ((distance, 0), (0, 0)), constant_values=fill)[: rows.shape[0]]


class LSTM(nn.Module):
    """Layers of LSTM cells: gates in order i, j, f, o, the forget gate's bias raised by one.

    c' = sigmoid(f + 1) c + sigmoid(i) tanh(j);  h' = sigmoid(o) tanh(c')

    (Zaremba et al. 2014, as in Magenta's Note RNN.) The input products of a layer are one large product
    over all steps, and so are the weights' gradients; only the recurrent product stays in the scan.
    """

    width: int
    layers: int
    heads: int
    context: int
    dropout: float
    dtype: Any

    def setup(self):
        """Make the cells' matrices."""
        self.inputs = [nn.Dense(4 * self.width, dtype=self.dtype) for _ in range(self.layers)]
        self.recurrent = [
            self.param(f"recurrent_{i}", nn.initializers.orthogonal(), (self.width, 4 * self.width))
            for i in range(self.layers)
        ]
        self.drop = nn.Dropout(self.dropout)

    @staticmethod
    def initial_carry(composer, batch: int):
        """Zero outputs and cells: per layer (h, c), each (B, width)."""
        zero = jnp.zeros((batch, composer.width), composer.dtype)
        return tuple((zero, zero.astype(jnp.float32)) for _ in range(composer.layers))

    def __call__(self, features, starts, deterministic):
        """Features (T, B, width), starts bool (T, B) -> hidden (T, B, width)."""
        hidden = features
        keep = ~starts[..., None]
        for layer in range(self.layers):
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


def lstm_cell(cell, gates):
    """Outputs (B, H), cells (B, H), activations (B, 4H) after a step, of cells (B, H) and gates (B, 4H)."""
    i, j, f, o = jnp.split(gates.astype(jnp.float32), 4, axis=-1)
    i, j, f, o = nn.sigmoid(i), jnp.tanh(j), nn.sigmoid(f + 1.0), nn.sigmoid(o)
    cell = f * cell + i * j
    return (o * jnp.tanh(cell)).astype(gates.dtype), cell, jnp.concatenate([i, j, f, o], axis=-1)


def _recur_step(hidden, cell, gates, keep, recurrent):
    """As lstm_cell, of gates (B, 4H) that lack the recurrent part.

    `keep` (B, 1) is zero where a melody starts and one elsewhere.
    """
    hidden, cell = hidden * keep.astype(hidden.dtype), cell * keep
    return lstm_cell(cell, gates + hidden @ recurrent)


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
        carry = ((d_gates @ recurrent.T) * keep).astype(jnp.float32), d_cell * f * keep
        return carry, d_gates

    zero = jnp.zeros_like(cell[0])
    gates = tuple(jnp.split(activations, 4, axis=-1))
    _, d_gates = jax.lax.scan(retreat, (zero, zero), (outer, gates, cell, cell_before, keep), reverse=True)
    flat = lambda x: x.reshape(-1, x.shape[-1])
    return d_gates, jnp.zeros_like(keep), flat(hidden_before).T @ flat(d_gates)


recur.defvjp(_recur_forward, _recur_backward)


class Transformer(nn.Module):
    """Pre-norm causal attention layers with rotary positions, looking back `context` steps.

    The carry holds the keys and values of the last `context` steps in a ring, so a step costs the same
    however long the melody is.
    """

    width: int
    layers: int
    heads: int
    context: int
    dropout: float
    dtype: Any

    def setup(self):
        """Make the layers; ValueError if the heads do not divide the width into even parts."""
        if self.width % (2 * self.heads):
            raise ValueError(f"a width of {self.width} cannot be shared by {self.heads} heads of even size")
        dense = lambda units: nn.Dense(units, use_bias=False, dtype=self.dtype, dot_general=_dot_general)
        self.norms = [nn.RMSNorm(dtype=self.dtype) for _ in range(2 * self.layers + 1)]
        self.projections = [dense(3 * self.width) for _ in range(self.layers)]
        self.outputs = [dense(self.width) for _ in range(self.layers)]
        self.expansions = [dense(4 * self.width) for _ in range(self.layers)]
        self.contractions = [dense(self.width) for _ in range(self.layers)]
        self.drop = nn.Dropout(self.dropout)

    @staticmethod
    def initial_carry(composer, batch: int):
        """Empty rings: keys and values (B, heads, context, depth) of each layer, ages and the step count.

        Were the layers one array, each step would copy every layer out of it.
        """
        depth = composer.width // composer.heads
        ring = jnp.zeros((batch, composer.heads, composer.context, depth), composer.dtype)
        return {
            "keys": (ring,) * composer.layers,
            "values": (ring,) * composer.layers,
            "segments": jnp.full((batch, composer.context), -1, jnp.int32),
            "segment": jnp.zeros((batch,), jnp.int32),
            "position": jnp.zeros((), jnp.int32),
        }

    def _split(self, layer, features, positions):
        """Queries, keys, values (..., heads, depth) of features (..., width), rotated to their positions."""
        projected = self.projections[layer](self.norms[2 * layer](features))
        shape = (*projected.shape[:-1], 3, self.heads, self.width // self.heads)
        query, key, value = jnp.moveaxis(projected.reshape(shape), -3, 0)
        return _rotate(query, positions), _rotate(key, positions), value

    def _finish(self, layer, features, attended, deterministic):
        """Add what was attended to, then the position-wise layer's output."""
        mixed = self.outputs[layer](attended.reshape(features.shape))
        features = features + self.drop(mixed, deterministic=deterministic)
        inner = nn.gelu(self.expansions[layer](self.norms[2 * layer + 1](features)))
        return features + self.drop(self.contractions[layer](inner), deterministic=deterministic)

    def __call__(self, features, starts, deterministic):
        """Features (T, B, width), starts bool (T, B) -> hidden (T, B, width)."""
        steps, batch, width = features.shape
        segments = jnp.cumsum(starts, axis=0).T  # (B, T)
        place = jnp.arange(steps)
        distance = place[:, None] - place[None, :]
        near = (distance >= 0) & (distance < self.context)
        open_ = near[None, None] & (segments[:, None, :, None] == segments[:, None, None, :])
        hidden = self.drop(features, deterministic=deterministic).swapaxes(0, 1).reshape(-1, width)
        positions = jnp.tile(place, batch)
        for layer in range(self.layers):
            split = self._split(layer, hidden, positions)
            query, key, value = (part.reshape(batch, steps, self.heads, -1).swapaxes(1, 2) for part in split)
            attended = _attend(query, key, value, open_).swapaxes(1, 2)
            hidden = self._finish(layer, hidden, attended, deterministic)
        return self.norms[-1](hidden).reshape(batch, steps, width).swapaxes(0, 1)

    def step(self, carry, features, starts):
        """One step: features (B, width) -> hidden (B, width), carry."""
        slot = carry["position"] % self.context
        segment = carry["segment"] + starts
        segments = carry["segments"].at[:, slot].set(segment)
        open_ = (segments == segment[:, None])[:, None, None, :]
        hidden, keys, values = features, [], []
        positions = jnp.broadcast_to(carry["position"], features.shape[:1])
        for layer in range(self.layers):
            query, key, value = self._split(layer, hidden, positions)
            keys.append(carry["keys"][layer].at[:, :, slot].set(key))
            values.append(carry["values"][layer].at[:, :, slot].set(value))
            attended = _attend(query[:, :, None], keys[-1], values[-1], open_)[:, :, 0]
            hidden = self._finish(layer, hidden, attended, True)
        carry = {
            "keys": tuple(keys),
            "values": tuple(values),
            "segments": segments,
            "segment": segment,
            "position": carry["position"] + 1,
        }
        return self.norms[-1](hidden), carry


def _dot_general(features, kernel, *_, **__):
    """As nn.Dense asks for a product of features (..., K) with a kernel (K, M)."""
    return product(features.reshape(-1, features.shape[-1]), kernel).reshape(*features.shape[:-1], -1)


@jax.custom_vjp
def product(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Rows (N, K) times a kernel (K, M).

    On a CPU the kernel's gradient comes from rows that are first transposed: XLA's product that contracts
    both operands' leading axes takes up to twice as long there.
    """
    return rows @ kernel


def _product_forward(rows, kernel):
    return rows @ kernel, (rows, kernel)


def _product_backward(saved, outer):
    rows, kernel = saved
    turned = jax.lax.platform_dependent(
        rows, cpu=lambda x: jax.lax.optimization_barrier(x.T), default=jnp.transpose
    )
    return outer @ kernel.T, turned @ outer


product.defvjp(_product_forward, _product_backward)


def _attend(query, key, value, open_):
    """Softmax attention of queries (B, H, Q, D) over keys and values (B, H, K, D) where `open_`."""
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    weights = nn.softmax(jnp.where(open_, scores * query.shape[-1] ** -0.5, CLOSED), axis=-1)
    return jnp.einsum("bhqk,bhkd->bhqd", weights.astype(value.dtype), value)


def _rotate(vectors, positions):
    """Rotary position embedding (Su et al. 2021) of vectors (N, heads, depth) at positions (N,)."""
    half = vectors.shape[-1] // 2
    angles = positions[:, None, None] * (10000.0 ** (-jnp.arange(half) / half))
    cos, sin = jnp.cos(angles).astype(vectors.dtype), jnp.sin(angles).astype(vectors.dtype)
    first, second = vectors[..., :half], vectors[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


BODIES: dict[str, type[LSTM] | type[Transformer]] = {"lstm": LSTM, "transformer": Transformer}
