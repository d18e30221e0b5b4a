"""The composer: previous tokens and the time in, logits of the next token and a value out.

Two bodies have one interface. Whole melodies are processed at once, time-major, from their start:

    output = composer.apply(params, tokens, times, condition)            # (T, B) -> (T, B, ...)

and music is written note by note, with the body's state as the carry:

    carry = composer.initial_carry(batch)
    output, carry = composer.apply(params, carry, token, time, condition, method="step")   # (B,)

A token that lies back, or that followed the longest match, can be copied: a head raises its logit.

Both give the same numbers. The input at time t is the token played at t - 1, or a start token before the
first: `composer.start` (the alphabet's size), or `composer.start_of(steps)`, which also tells how long the
melody is to be. A start token resets the body's state, so several melodies may follow one another in one row.
"""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from mammadai_jax.networks import longest_match
from mammadai_jax.networks.lstm import LSTM
from mammadai_jax.networks.mlp import Output
from mammadai_jax.networks.transformer import Transformer

STEPS_PER_BAR = 16
STEPS_PER_QUARTER = 4
BARS_COUNTED = 8
LONGEST = 256  # quarters of a melody whose length can be told
BODIES: dict[str, type[LSTM] | type[Transformer]] = {"lstm": LSTM, "transformer": Transformer}


class Composer(nn.Module):
    """Embeds tokens, times and an optional condition, runs a body over them, and applies the heads.

    Attributes:
        size: tokens in the alphabet.
        body: "lstm" or "transformer".
        width: units a layer; num_layers: how many.
        num_heads: attention heads (transformer).
        attention_window: steps the transformer looks back.
        metre: whether the position in the bar and the bar's number modulo 8 are inputs.
        metre_period: steps after which the position repeats: those of a bar, or a common multiple of several
            bars' lengths.
        lookback: distances in bars; the token at the same position so many bars ago is an input too, as in
            Magenta's Lookback RNN (Waite 2016), because tunes repeat themselves by the bar.
        match_steps: how far back, in steps, the passage is looked for that the last steps repeat; what
            followed there is an input, with the length of the repetition, see `longest_match`. 0 for none.
        countdown: quarters before the end of a melody that are an input, if its length is told; 0 for none.
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
    metre_period: int = STEPS_PER_BAR
    lookback: tuple[int, ...] = (1, 2, 4, 8)
    match_steps: int = 0
    countdown: int = 0
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @property
    def start(self) -> int:
        """The token that precedes a melody's first one."""
        return self.size

    def start_of(self, steps: Any) -> Any:
        """The start token of a melody of so many steps, int (...); `start` beyond LONGEST quarters."""
        return self.start + quarters_of(steps) * bool(self.countdown)

    def setup(self):
        """Make the parts; ValueError for an unknown body."""
        if self.body not in BODIES:
            raise ValueError(f"body is one of {sorted(BODIES)}, not {self.body!r}")
        self.token_table = nn.Embed(self.size + 1, self.width, embedding_init=nn.initializers.normal(0.1))
        if self.metre:
            self.place_table = nn.Embed(
                self.metre_period, self.width, embedding_init=nn.initializers.normal(0.1)
            )
            self.bar_table = nn.Embed(BARS_COUNTED, self.width, embedding_init=nn.initializers.normal(0.1))
        self.lookback_tables = [
            nn.Embed(self.size + 1, self.width, embedding_init=nn.initializers.normal(0.1))
            for _ in self.lookback
        ]
        if self.match_steps:
            self.match_table = nn.Embed(
                (self.size + 1) * longest_match.KINDS, self.width, embedding_init=nn.initializers.normal(0.1)
            )
        if self.countdown:
            self.countdown_table = nn.Embed(
                self.countdown + 1, self.width, embedding_init=nn.initializers.normal(0.1)
            )
        self.condition_layer = nn.Dense(self.width, use_bias=False, dtype=self.dtype)
        self.trunk = BODIES[self.body](
            self.width, self.num_layers, self.num_heads, self.attention_window, self.dropout, self.dtype
        )
        self.logits_head = nn.Dense(
            self.size, kernel_init=nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        )
        self.value_head = nn.Dense(1, kernel_init=nn.initializers.zeros)
        if sources := len(self.lookback) + bool(self.match_steps):
            self.copy_head = nn.Dense(sources, kernel_init=nn.initializers.zeros)

    def _embed(self, tokens, times, earlier, condition, *, match=(), quarters: Any = 0):
        features = self.token_table(tokens)
        for table, tokens_before in zip(self.lookback_tables, earlier, strict=True):
            features += table(tokens_before)
        if self.match_steps:
            followed, length = match
            features += self.match_table(followed * longest_match.KINDS + longest_match.kind(length))
        if self.metre:
            features += self.place_table(times % self.metre_period)
            features += self.bar_table((times // self.metre_period) % BARS_COUNTED)
        if self.countdown:
            left = jnp.clip(quarters - times // STEPS_PER_QUARTER, 1, self.countdown)
            features += self.countdown_table(jnp.where(quarters > 0, left, 0))
        if condition is not None:
            features += self.condition_layer(condition)
        return features.astype(self.dtype)

    def heads(self, hidden, sources=()) -> Output:
        """The heads applied to the body's states (..., width) -> Output (..., A), (...).

        `sources` are tokens int (...) that can be copied: what the copy head says is added to their logits.
        """
        hidden = hidden.astype(jnp.float32)
        logits = self.logits_head(hidden)
        if sources:
            copied = jax.nn.one_hot(jnp.stack(sources, axis=-1), self.size)
            logits += jnp.einsum("...k,...ka->...a", self.copy_head(hidden), copied)
        return Output(logits, self.value_head(hidden)[..., 0])

    def __call__(self, tokens, times, condition=None, deterministic: bool = True, quarters=None) -> Output:
        """Whole melodies: tokens, times int (T, B), condition (B, C) or None -> Output (T, B, ...).

        `quarters` int (T, B) tell how long the melody of each step is, 0 for nothing; by default the start
        tokens do.
        """
        return self.heads(*self._read(tokens, times, condition, deterministic, quarters))

    def hidden(self, tokens, times, condition=None, deterministic: bool = True, quarters=None):
        """The body's states for whole melodies, (T, B, width), before the heads; arguments as above."""
        return self._read(tokens, times, condition, deterministic, quarters)[0]

    def _read(self, tokens, times, condition, deterministic, quarters):
        """The body's states (T, B, width), and the tokens (T, B) that can be copied."""
        chex.assert_rank([tokens, times], 2)
        chex.assert_equal_shape([tokens, times])
        tokens, starts, begun = self._started(tokens)
        quarters = _since(starts, begun) if quarters is None else quarters
        match = longest_match.find(tokens, starts, self.match_steps, self.start) if self.match_steps else ()
        earlier = self._earlier(tokens, starts)
        features = self._embed(tokens, times, earlier, condition, match=match, quarters=quarters)
        return self.trunk(features, starts, deterministic), (*earlier, *match[:1])

    def _started(self, tokens):
        """Tokens with one kind of start, where it is, and the quarters that it tells, 0 for none: (...)."""
        return jnp.minimum(tokens, self.start), tokens >= self.start, jnp.maximum(tokens - self.start, 0)

    def _earlier(self, tokens, starts):
        """For each lookback the tokens (T, B) played at that distance before the next one; start if none."""
        segments = jnp.cumsum(starts, axis=0)
        all_tokens = []
        for bars in self.lookback:
            distance = bars * STEPS_PER_BAR - 1
            earlier = _shift(tokens, distance, self.start)
            all_tokens.append(jnp.where(_shift(segments, distance, -1) == segments, earlier, self.start))
        return all_tokens

    def step(self, carry, token, time, condition=None) -> tuple[Output, Any]:
        """One note: token, time int (B,), condition (B, C) or None -> Output (B, ...), carry."""
        chex.assert_rank([token, time], 1)
        inner, recent, lengths, quarters = carry
        token, starts, begun = self._started(token)
        quarters = jnp.where(starts, begun, quarters) if self.countdown else ()
        if self.lookback or self.match_steps:
            recent = longest_match.remember(recent, token, starts, self.start)
        earlier = [recent[:, -bars * STEPS_PER_BAR] for bars in self.lookback]
        lengths = longest_match.lengthen(lengths, recent, starts) if self.match_steps else lengths
        match = longest_match.pick(lengths, recent, self.start) if self.match_steps else ()
        features = self._embed(token, time, earlier, condition, match=match, quarters=quarters)
        hidden, inner = self.trunk.step(inner, features, starts)
        return self.heads(hidden, (*earlier, *match[:1])), (inner, recent, lengths, quarters)

    def initial_carry(self, batch: int):
        """The carry before the first note of `batch` melodies.

        The body's own, the last tokens (B, H), how long each distance has matched (B, match_steps), and the
        quarters of the whole melody (B,), 0 if it is not told.
        """
        recent = jnp.full((batch, self.reach), self.start, jnp.int32)
        return (
            BODIES[self.body].initial_carry(self, batch),
            recent,
            jnp.zeros((batch, self.match_steps), jnp.int32) if self.match_steps else (),
            jnp.zeros(batch, jnp.int32) if self.countdown else (),
        )

    @property
    def reach(self) -> int:
        """How many of the last tokens are remembered, in steps."""
        lookback = STEPS_PER_BAR * max(self.lookback, default=0)
        return max(lookback, self.match_steps + 1 if self.match_steps else 0)

    def before(self, carry, distance):
        """The token so many steps before the next one, int (B,) for distances (B,); else `start`.

        A distance is 1 or more; what lies beyond `reach`, or before the start, is not remembered.
        """
        recent = carry[1]
        place = jnp.clip(self.reach - distance, 0)
        known = (distance > 0) & (distance <= self.reach)
        return jnp.where(known, jnp.take_along_axis(recent, place[:, None], axis=1)[:, 0], self.start)

    def extend_carry(self, carry):
        """Convert the carry of the same composer with a shorter attention window, which is not yet full."""
        inner, *rest = carry
        return BODIES[self.body].extend_carry(self, inner), *rest


def quarters_of(steps: Any) -> Any:
    """How long a melody of so many steps, int (...), is said to be, in quarters; 0 beyond LONGEST."""
    quarters = -(-steps // STEPS_PER_QUARTER)
    return quarters * (quarters <= LONGEST)


def _since(starts, values):
    """At each step the value of the last start, (T, B); 0 before the first."""
    time = jnp.arange(len(starts))[:, None]
    last = jax.lax.cummax(jnp.where(starts, time, -1), axis=0)
    return jnp.where(last >= 0, jnp.take_along_axis(values, jnp.maximum(last, 0), axis=0), 0)


def _shift(rows, distance, fill):
    """Rows (T, B) moved to later times by `distance`, with `fill` at the start."""
    return jnp.pad(rows, ((distance, 0), (0, 0)), constant_values=fill)[: rows.shape[0]]
