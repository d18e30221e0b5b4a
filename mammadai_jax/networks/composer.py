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

from mammadai_jax.networks.lstm import LSTM
from mammadai_jax.networks.transformer import Transformer

STEPS_PER_BAR = 16
BARS_COUNTED = 8
BODIES: dict[str, type[LSTM] | type[Transformer]] = {"lstm": LSTM, "transformer": Transformer}


class Output(NamedTuple):
    """`logits` (..., size) of the next token; `value` (...) of the state."""

    logits: jax.Array
    value: jax.Array


class Composer(nn.Module):
    """Embeds tokens, times and an optional condition, runs a body over them, and reads the heads.

    Attributes:
        size: tokens in the alphabet.
        body: "lstm" or "transformer".
        width: units a layer; num_layers: how many.
        num_heads: attention heads (transformer).
        attention_window: steps the transformer looks back.
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
    num_layers: int = 1
    num_heads: int = 4
    attention_window: int = 256
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
            self.width, self.num_layers, self.num_heads, self.attention_window, self.dropout, self.dtype
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

    def read(self, hidden) -> Output:
        """What the heads make of the body's states (..., width) -> Output (..., A), (...)."""
        hidden = hidden.astype(jnp.float32)
        return Output(self.logits_head(hidden), self.value_head(hidden)[..., 0])

    def __call__(self, tokens, times, condition=None, deterministic: bool = True) -> Output:
        """Read whole melodies: tokens, times int (T, B), condition (B, C) or None -> Output (T, B, ...)."""
        return self.read(self.hidden(tokens, times, condition, deterministic))

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
        return self.read(hidden), (inner, history)

    def initial_carry(self, batch: int):
        """What is remembered before the first note of `batch` melodies: the body's carry, the last tokens."""
        history = jnp.full((batch, STEPS_PER_BAR * max(self.lookback, default=0)), self.start, jnp.int32)
        return BODIES[self.body].initial_carry(self, batch), history

    def grown(self, carry):
        """The carry of the same composer with a shorter context, which is not yet full, for this one's."""
        inner, history = carry
        return BODIES[self.body].grown(self, inner), history


def _shift(rows, distance, fill):
    """Rows (T, B) later by a distance, filled at the start."""
    return jnp.pad(rows, ((distance, 0), (0, 0)), constant_values=fill)[: rows.shape[0]]
