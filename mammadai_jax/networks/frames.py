"""What a network reads of the frames before the present one, kept up to date frame by frame.

A frame is a row of V tokens, one a voice: 0 is silence, 1..P are pitches, and an alphabet with holds has
P + 1 for what goes on. All is made of the tokens alone, so nothing here is learned, and whole pieces and
single steps use the same function, `advance`.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

UNKNOWN = -1  # a token before a row that begins within a piece, or none
LINE = 3  # earlier pitches of a voice that are remembered
DECAYS = 0.5, 0.9, 0.99  # of the sums of pitch classes, a quarter note


def by_frame(rows: jax.Array, voices: int) -> jax.Array:
    """Decisions (N, B) as frames (T, B, V); the last frame is filled with zeros."""
    chex.assert_rank(rows, 2)
    filled = jnp.pad(rows, ((0, -len(rows) % voices), (0, 0)))
    return filled.reshape(-1, voices, rows.shape[1]).swapaxes(1, 2)


def frames_before(tokens: jax.Array, voices: int, unknown: int) -> jax.Array:
    """The frame (T, B, V) before each, of the tokens (N, B) before each decision.

    Of the frame before the first one the last token is there, which the first row of `tokens` has; the others
    are `unknown`.
    """
    chex.assert_rank(tokens, 2)
    complete = jnp.pad(tokens, ((0, -len(tokens) % voices), (0, 0)))
    shifted = jnp.pad(complete, ((voices - 1, 0), (0, 0)), constant_values=unknown)
    return by_frame(shifted[: len(complete)], voices)


class View(NamedTuple):
    """What the network reads. Tokens may be the start token, before a piece, and UNKNOWN.

    Attributes:
        sounding: int32 (..., V), the last frame's tokens, with a hold replaced by the pitch that it holds.
        ages: int32 (..., V), for how many frames before the last one the same has sounded.
        lines: int32 (..., LINE, V), what sounded before in each voice, the latest first.
        classes: float32 (..., DECAYS, 12), shares of the pitch classes in what sounded, lately and long ago.
        followed: int32 (..., 2, V), tokens that followed the longest repetition of all voices together, and
            of each voice's own line; UNKNOWN without one.
        lengths: int32 (..., 2, V), of the repetitions, in frames.

    """

    sounding: jax.Array
    ages: jax.Array
    lines: jax.Array
    classes: jax.Array
    followed: jax.Array
    lengths: jax.Array


class Memory(NamedTuple):
    """A view of the frames so far, and what it is computed of.

    Attributes:
        view: see there, (B, ...).
        sums: float32 (B, DECAYS, 12), of the pitch classes.
        recent: int32 (B, M + 1, V), the last frames.
        repeated: int32 (B, M, V), for how many frames each voice has repeated itself at each distance.

    """

    view: View
    sums: jax.Array
    recent: jax.Array
    repeated: jax.Array


class Frames(NamedTuple):
    """How frames are read.

    Attributes:
        size: tokens in the alphabet, which is also the start token.
        voices: tokens in a frame (V).
        hold: whether the last token holds what sounds.
        steps_per_quarter: frames a quarter note.
        match_steps: the largest distance of a repetition, in frames (M); 0 for none.

    """

    size: int
    voices: int
    hold: bool
    steps_per_quarter: int
    match_steps: int

    @property
    def pitches(self) -> int:
        """How many pitches there are."""
        return self.size - 1 - self.hold

    def initial(self, batch: int) -> Memory:
        """The memory of a batch before any frame."""
        blank = lambda *shape: jnp.full((batch, *shape), UNKNOWN, jnp.int32)
        zero = lambda *shape: jnp.zeros((batch, *shape), jnp.int32)
        sums = jnp.zeros((batch, len(DECAYS), 12))
        voices, matches = self.voices, (2, self.voices)
        view = View(blank(voices), zero(voices), blank(LINE, voices), sums, blank(*matches), zero(*matches))
        reach = max(self.match_steps, 1)  # no array is empty
        return Memory(view, sums, blank(reach + 1, voices), zero(reach, voices))

    def sound(self, tokens: jax.Array, before: jax.Array) -> jax.Array:
        """What sounds (...) of tokens (...): a hold is replaced by what sounded before (...)."""
        chex.assert_equal_shape([tokens, before])
        return jnp.where(tokens == self.size - 1, before, tokens) if self.hold else tokens

    def is_pitch(self, tokens: jax.Array) -> jax.Array:
        """Whether tokens (...) are pitches."""
        return (tokens >= 1) & (tokens <= self.pitches)

    def advance(self, memory: Memory, frame: jax.Array, starts: jax.Array) -> Memory:
        """The memory after one more frame int32 (B, V); where `starts` (B,), of a piece that begins now."""
        chex.assert_rank([frame, starts], [2, 1])
        fresh = self.initial(len(frame))
        fresh = fresh._replace(view=fresh.view._replace(sounding=jnp.full_like(frame, self.size)))
        choose = lambda new, old: jnp.where(jnp.expand_dims(starts, range(1, old.ndim)), new, old)
        return jax.tree.map(choose, fresh, self._with(memory, frame))

    def _with(self, memory, frame):
        before, lines = memory.view.sounding, memory.view.lines
        sounding = self.sound(frame, before)
        changed = (sounding != before) | (frame == sounding if self.hold else False)
        ages = jnp.where(changed, 0, memory.view.ages + 1)
        shifted = jnp.concatenate([before[:, None], lines[:, :-1]], axis=1)
        lines = jnp.where((sounding != before)[:, None], shifted, lines)
        sums = self._sums(memory.sums, sounding)
        classes = sums / (sums.sum(axis=-1, keepdims=True) + 1e-3)
        recent = jnp.concatenate([memory.recent[:, 1:], frame[:, None]], axis=1)
        same = (recent[:, :-1][:, ::-1] == frame[:, None]) & (frame != UNKNOWN)[:, None]
        repeated = jnp.where(same, memory.repeated + 1, 0)
        view = View(sounding, ages, lines, classes, *self._match(repeated, recent))
        return Memory(view, sums, recent, repeated)

    def _sums(self, sums, sounding):
        classes = jnp.where(self.is_pitch(sounding), (sounding - 1) % 12, UNKNOWN)
        decays = jnp.array(DECAYS) ** (1 / self.steps_per_quarter)
        return decays[:, None] * sums + jax.nn.one_hot(classes, 12).sum(axis=1)[:, None]

    def _match(self, repeated, recent):
        """What followed the longest repetitions, the nearest of several, and their lengths (B, 2, V)."""
        if not self.match_steps:
            shape = (len(recent), 2, self.voices)
            return jnp.full(shape, UNKNOWN), jnp.zeros(shape, jnp.int32)
        together = jnp.broadcast_to(repeated.min(axis=2, keepdims=True), repeated.shape)
        both = jnp.stack([together, repeated], axis=1)
        lengths, nearest = both.max(axis=2), both.argmax(axis=2)
        followed = jnp.take_along_axis(recent[:, ::-1], nearest, axis=1)
        return jnp.where(lengths > 0, followed, UNKNOWN), lengths

    def views(self, frames: jax.Array, starts: jax.Array) -> View:
        """The view (T, B, ...) before each frame of whole pieces.

        Args:
            frames: int32 (T, B, V), the frame before each; UNKNOWN where a row begins within a piece.
            starts: bool (T, B), where a piece begins.

        """
        chex.assert_rank([frames, starts], [3, 2])

        def advance(memory, now):
            memory = self.advance(memory, *now)
            return memory, memory.view

        return jax.lax.scan(advance, self.initial(frames.shape[1]), (frames, starts))[1]
