"""The composer of several voices: a body along time, and in each frame one voice after another.

The body reads whole frames, the last one at each step. The decision of a voice reads the body's state, what
was decided in its frame before, and features relative to the pitch that the voice moves from, see
`voice_features`. Its logits are a sum of three parts: of absolute pitches, of intervals from that pitch, and
of the tokens that followed the longest repetitions of what was played last.

Tokens are decisions, one after another: number n is of the voice order[n % V] in frame n // V, where the
order is `decision_order(V)`. The interface is that of `Composer`, and so are the start token, which begins a
piece, and the agreement of whole pieces with single steps. A row begins with the first decision of a frame,
and so does each piece in it; the rows of a step are at the same voice.
"""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mammadai_jax.music.piece import decision_order
from mammadai_jax.networks import voice_features
from mammadai_jax.networks.composer import BODIES
from mammadai_jax.networks.frames import UNKNOWN, Frames, by_frame, frames_before
from mammadai_jax.networks.kernels.products import dot_general
from mammadai_jax.networks.mlp import Output

COPY_GAIN = 10.0  # of the copies' outputs: a copied token is often all but certain, and soon learned to be


class PolyphonicComposer(nn.Module):
    """Embeds frames, runs a body over them, and decides the voices of each frame.

    Attributes:
        size: tokens in the alphabet of a voice: silence, pitches and, with `hold`, what goes on.
        voices: voices of a piece (V).
        hold: whether the alphabet's last token holds what sounds.
        body: "lstm" or "transformer".
        width: units a layer.
        num_layers: layers of the body.
        num_heads: attention heads (transformer).
        attention_window: frames the transformer looks back.
        steps_per_quarter: frames a quarter note.
        match_steps: how far back, in frames, the passage is looked for that the last frames repeat.
        dropout: rate on the body's inputs and outputs and on the decisions' hidden units while training (a
            "dropout" rng is then needed).
        feature_dropout: the same of the decisions' features.
        dtype: of the body's matrix products; parameters, softmax and heads' outputs stay float32.

    """

    size: int
    voices: int = 4
    hold: bool = False
    body: str = "lstm"
    width: int = 256
    num_layers: int = 1
    num_heads: int = 4
    attention_window: int = 256
    steps_per_quarter: int = 4
    match_steps: int = 128
    dropout: float = 0.0
    feature_dropout: float = 0.0
    dtype: Any = jnp.float32

    @property
    def start(self) -> int:
        """The token that precedes a piece's first one."""
        return self.size

    @property
    def frames(self) -> Frames:
        """How frames are read."""
        return Frames(self.size, self.voices, self.hold, self.steps_per_quarter, self.match_steps)

    def setup(self):
        """Make the parts; ValueError for an unknown body or no voice."""
        if self.body not in BODIES:
            raise ValueError(f"body is one of {sorted(BODIES)}, not {self.body!r}")
        self.order = decision_order(self.voices)
        embedding = nn.initializers.normal(0.1)
        dense = lambda **options: nn.Dense(self.width, dtype=self.dtype, dot_general=dot_general, **options)
        self.frame_layer = dense(kernel_init=embedding)
        self.condition_layer = dense(use_bias=False)
        self.trunk = BODIES[self.body](
            self.width, self.num_layers, self.num_heads, self.attention_window, self.dropout, self.dtype
        )
        self.hidden_layers = [dense() for _ in self.order]
        self.feature_layers = [dense(use_bias=False, kernel_init=embedding) for _ in self.order]
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        outputs = self.size + 2 * voice_features.REACH + 1
        self.logits_heads = [nn.Dense(outputs, kernel_init=small) for _ in self.order]
        self.copy_heads = [nn.Dense(2, kernel_init=nn.initializers.zeros) for _ in self.order]
        self.value_head = nn.Dense(1, kernel_init=nn.initializers.zeros)
        self.drop = nn.Dropout(self.dropout)
        self.drop_features = nn.Dropout(self.feature_dropout)

    def __call__(self, tokens, times, condition=None, deterministic: bool = True) -> Output:
        """Whole pieces: tokens, times int (N, B), condition (B, C) or None -> Output (N, B, ...)."""
        chex.assert_rank([tokens, times], 2)
        chex.assert_equal_shape([tokens, times])
        rows, frame_times = by_frame(tokens, self.voices), by_frame(times, self.voices)[..., 0] // self.voices
        starts = rows[..., 0] == self.start
        before = self._by_voice(frames_before(tokens, self.voices, UNKNOWN))
        view = self.frames.views(before, starts)
        hidden = self.trunk(self._embed(view, frame_times, condition), starts, deterministic)
        outputs = [
            self._decide(hidden, view, frame_times, rows[..., 1 : k + 1], deterministic)
            for k in range(self.voices)
        ]
        merged = lambda *parts: jnp.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])[: len(tokens)]
        return jax.tree.map(merged, *outputs)

    def _by_voice(self, decisions):
        """Frames (..., V) by voice, of the same in the order of decisions."""
        return decisions[..., np.argsort(self.order)]

    def _embed(self, view, times, condition):
        features = self.frame_layer(voice_features.of_frame(self.frames, view, times))
        return features if condition is None else features + self.condition_layer(condition)

    def _decide(self, hidden, view, times, decided, deterministic=True) -> Output:
        """The next decision after decisions (..., k) of the same frame, of the body's states (..., width)."""
        k = decided.shape[-1]
        features = voice_features.of_decision(self.frames, view, times, decided, self.order[: k + 1])
        features = self.drop_features(features, deterministic=deterministic)
        hidden = nn.relu(self.hidden_layers[k](hidden) + self.feature_layers[k](features))
        hidden = self.drop(hidden, deterministic=deterministic).astype(jnp.float32)
        return Output(self._logits(hidden, view, k), self.value_head(hidden)[..., 0])

    def _logits(self, hidden, view, k):
        voice = self.order[k]
        absolute, intervals = jnp.split(self.logits_heads[k](hidden), [self.size], axis=-1)
        home = voice_features.centre(self.frames, view, voice)
        relative = voice_features.relative_logits(self.frames, intervals, home)
        followed = jax.nn.one_hot(view.followed[..., voice], self.size)
        copied = COPY_GAIN * self.copy_heads[k](hidden)
        return absolute + relative + jnp.einsum("...m,...ma->...a", copied, followed)

    def step(self, carry, token, time, condition=None) -> tuple[Output, Any]:
        """One decision: token, time int (B,), condition (B, C) or None -> Output (B, ...), carry."""
        chex.assert_rank([token, time], 1)
        place = time[0] % self.voices
        decided = carry["decided"].at[:, place - 1].set(token)
        carry = carry | {"decided": decided}
        times = time // self.voices
        carry = nn.cond(
            place == 0,
            lambda composer, carry: composer._next_frame(carry, times, condition),
            lambda composer, carry: carry,
            self,
            carry,
        )
        decide = lambda k: (
            lambda composer: composer._decide(carry["hidden"], carry["memory"].view, times, decided[:, :k])
        )
        return nn.switch(place, [decide(k) for k in range(self.voices)], self), carry

    def _next_frame(self, carry, times, condition):
        """The carry after the last decision of a frame."""
        starts = carry["decided"][:, -1] == self.start
        memory = self.frames.advance(carry["memory"], self._by_voice(carry["decided"]), starts)
        hidden, inner = self.trunk.step(carry["inner"], self._embed(memory.view, times, condition), starts)
        return carry | {"memory": memory, "hidden": hidden, "inner": inner}

    def initial_carry(self, batch: int):
        """The carry before the first decision of `batch` pieces.

        "inner" of the body, its "hidden" state (B, width) in this frame, the "memory" of the frames before,
        and the last V "decided" tokens (B, V), this frame's first.
        """
        return {
            "inner": BODIES[self.body].initial_carry(self, batch),
            "hidden": jnp.zeros((batch, self.width), self.dtype),
            "memory": self.frames.initial(batch),
            "decided": jnp.full((batch, self.voices), UNKNOWN, jnp.int32),
        }

    def extend_carry(self, carry):
        """Convert the carry of the same composer with a shorter attention window, which is not yet full."""
        return carry | {"inner": BODIES[self.body].extend_carry(self, carry["inner"])}
