# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# (flax declares that apply returns a tuple)
"""The prior: a composer trained by maximum likelihood on melodies (the Note-RNN of Jaques et al. 2017).

    loss = - mean_t log p(a_t | a_<t, t)

The corpus is one row of tokens in which melodies follow each other without padding. A minibatch is a set of
windows cut at random places. A window that begins within a melody has no access to the notes before it. In
most windows the composer is told how long the melodies are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from mammadai_jax.fields import MAX_LAYERS, MAX_WIDTH, static, traced
from mammadai_jax.learning import collectives, likelihood
from mammadai_jax.learning.optimisers import Optimiser
from mammadai_jax.learning.rollout import AnyComposer
from mammadai_jax.music.notes import MAGENTA
from mammadai_jax.networks.composer import Composer, quarters_of

LENGTHS_KNOWN = 0.8  # of the windows: in them the composer hears how long the melodies are


@struct.dataclass
class Config:
    """Settings of the prior.

    The learning rate rises linearly over the warm-up and then falls to zero along a cosine.

    Attributes:
        body: network of the composer, "lstm" or "transformer".
        width: units of each layer.
        num_layers: layers of the network.
        num_heads: heads of each attention layer.
        attention_window: earlier steps that attention can read.
        metre: whether the place in the bar is an input.
        lookback: distances in bars; the token so far back is an input.
        match_steps: how far back the passage is looked for that the last steps repeat; what followed there is
            an input. 0 for none.
        countdown: quarters before the end of a melody that are an input, if its length is told; 0 for none.
        dropout: probability that a unit is dropped while training.
        transpose: largest number of semitones by which a window is moved up or down at random.
        batch_size: examples in a minibatch; here windows of the corpus.
        sequence_length: steps of a window.
        num_updates: updates until the learning rate has fallen to zero; 0 leaves the stage out.
        optimiser: "adam", or "muon", which takes orthogonalised steps of matrices.
        learning_rate: step size of the optimiser; its peak.
        lr_warmup_steps: updates in which the learning rate rises.
        weight_decay: coefficient of AdamW's weight decay; of matrices only.
        max_grad_norm: largest global norm of the gradient.
        ema_decay: decay of the moving average of the parameters; evaluation and composing use the average.

    """

    body: Literal["lstm", "transformer"] = static("lstm")
    width: int = static(256, low=1, high=MAX_WIDTH)
    num_layers: int = static(1, low=1, high=MAX_LAYERS)
    num_heads: int = static(4, low=1)
    attention_window: int = static(256, low=1, unit="steps")
    metre: bool = static(True)
    lookback: tuple[int, ...] = static((1, 2, 4, 8), low=1, unit="bars")
    match_steps: int = static(128, low=0, high=4096, unit="steps")
    countdown: int = static(32, low=0, high=256, unit="quarters")
    dropout: float = static(0.25, low=0, high=0.99)
    transpose: int = static(0, low=0, high=36, unit="semitones")
    batch_size: int = static(32, low=1)
    sequence_length: int = static(192, low=1, unit="steps")
    num_updates: int = traced(800, low=0, unit="updates")
    optimiser: Optimiser = static("muon")
    learning_rate: float = traced(4e-3, low=0)
    lr_warmup_steps: int = traced(50, low=0, unit="updates")
    weight_decay: float = traced(0.01, low=0)
    max_grad_norm: float = traced(1.0, low=0)
    ema_decay: float = traced(0.99, low=0, high=1)


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the composer.
        average: the moving average of `params`.
        opt_state: of the optimiser.
        update: int32, number of updates made.
        key: of the next update.

    """

    params: Any
    average: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array = collectives.own()


@struct.dataclass
class Stream:
    """Melodies laid end to end, or windows of them.

    Attributes:
        tokens: int32 (N,) or (T, B).
        previous: the token before each in its melody, the start token before the first.
        times: the time step of each token in its melody.
        quarters: how long the melody is, 0 where that is not told.

    """

    tokens: jax.Array
    previous: jax.Array
    times: jax.Array
    quarters: jax.Array


def stream(melodies: Sequence[np.ndarray], size: int, cut: int | None = None) -> Stream:
    """Lay token rows (T_i,) of an alphabet of `size` tokens end to end; ValueError if there is no token.

    The length of rows of `cut` steps or more is not told: they may be parts of melodies.
    """
    melodies = [np.asarray(m, np.int32) for m in melodies if len(m)]
    if not melodies:
        raise ValueError("the corpus has no notes: nothing to learn from")
    previous = [np.concatenate([[size], m[:-1]]) for m in melodies]
    lengths = [quarters_of(len(m)) * (cut is None or len(m) < cut) for m in melodies]
    quarters = [np.full(len(m), each) for m, each in zip(melodies, lengths, strict=True)]
    rows = (melodies, previous, [np.arange(len(m)) for m in melodies], quarters)
    return Stream(*(jnp.asarray(np.concatenate(row), jnp.int32) for row in rows))


def make_composer(config: Config, size: int) -> Composer:
    """The network of a config, for an alphabet of `size` tokens."""
    network = ("body", "width", "num_layers", "num_heads", "attention_window", "dropout")
    inputs = ("metre", "lookback", "match_steps", "countdown")
    return Composer(size=size, **{name: getattr(config, name) for name in (*network, *inputs)})


def init(key: jax.Array, config: Config, size: int) -> State:
    """A fresh learner for an alphabet of `size` tokens."""
    return init_composer(key, config, make_composer(config, size))


def init_composer(key: jax.Array, config: Any, composer: Any) -> State:
    """A fresh learner of any composer, which is initialised for tokens (1, 1); see `step_composer`."""
    key, key_params = jax.random.split(key)
    blank = jnp.zeros((1, 1), jnp.int32)
    params = composer.init(key_params, blank, blank)
    return State(
        params=params,
        average=jax.tree.map(jnp.copy, params),
        opt_state=likelihood.optimiser(config).init(params),
        update=jnp.int32(0),
        key=key,
    )


def windows(key: jax.Array, data: Stream, batch_size: int, length: int, voices: int = 1) -> Stream:
    """Cut windows of `length` tokens at random places -> Stream of (length, batch_size).

    Windows are shorter if the whole stream is. With several voices, whose tokens make up frames, they begin
    where a frame does.
    """
    total = data.tokens.shape[0]
    length = min(length, total)
    begins = voices * jax.random.randint(key, (batch_size,), 0, (total - length) // voices + 1)
    places = begins[None, :] + jnp.arange(length)[:, None]
    return jax.tree.map(lambda row: row[places], data)


def transposed(key: jax.Array, rows: Stream, semitones: int, pitches: range) -> Stream:
    """Windows (T, B) moved up or down at random, each as a whole and within the tokens that are pitches."""
    chex.assert_rank(rows.tokens, 2)
    is_pitch = lambda x: (x >= pitches.start) & (x < pitches.stop)
    both = jnp.concatenate([rows.tokens, rows.previous])
    lowest = jnp.where(is_pitch(both), both, pitches.stop - 1).min(axis=0)
    highest = jnp.where(is_pitch(both), both, pitches.start).max(axis=0)
    shift = jax.random.randint(key, lowest.shape, -semitones, semitones + 1)
    shift = jnp.clip(shift, pitches.start - lowest, pitches.stop - 1 - highest)
    move = lambda x: jnp.where(is_pitch(x), x + shift, x)
    return rows.replace(tokens=move(rows.tokens), previous=move(rows.previous))


def negative_log_likelihood(composer: AnyComposer, params, rows: Stream, key=None) -> jax.Array:
    """-log p of every token of windows (T, B), in nats, float32 (T, B); a key turns dropout on."""
    chex.assert_rank(rows.tokens, 2)
    logits = _logits(composer, params, rows, key)
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, rows.tokens)


def _logits(composer: AnyComposer, params, rows: Stream, key=None) -> jax.Array:
    options = {"quarters": rows.quarters} if isinstance(composer, Composer) else {}
    options |= {"deterministic": key is None, "rngs": None if key is None else {"dropout": key}}
    return composer.apply(params, rows.previous, rows.times, **options).logits


def step(
    state: State,
    config: Config,
    data: Stream,
    size: int,
    *,
    loss: Callable[..., jax.Array] = negative_log_likelihood,
) -> tuple[State, dict[str, jax.Array]]:
    """One update. Metrics: "bits" a step, and "grad_norm" before the clip.

    `loss` is (composer, params, rows, key) -> float32 (T, B), the loss of every token.
    """
    composer, pitches = make_composer(config, size), range(MAGENTA.first, size)
    return step_composer(state, config, composer, data, pitches=pitches, loss=loss)


def step_composer(
    state: State,
    config: Any,
    composer: Any,
    data: Stream,
    *,
    pitches: range,
    voices: int = 1,
    loss: Callable[..., jax.Array] = negative_log_likelihood,
) -> tuple[State, dict[str, jax.Array]]:
    """One update of any composer, as `step`.

    Args:
        state: of the learner.
        config: has `batch_size`, `sequence_length` and `transpose`, and see `likelihood.minibatch_step`.
        composer: the network.
        data: to learn from.
        pitches: the tokens that are transposed.
        voices: tokens of a frame; a window has `sequence_length` frames.
        loss: (composer, params, rows, key) -> float32 (T, B), the loss of every token.

    Returns:
        State and metrics, as of `step`.

    """
    key, key_windows, key_dropout = jax.random.split(state.key, 3)
    length = voices * config.sequence_length
    rows = windows(key_windows, data, config.batch_size, length, voices)
    known = jax.random.bernoulli(jax.random.fold_in(key_windows, 2), LENGTHS_KNOWN, rows.quarters.shape[1:])
    rows = rows.replace(quarters=rows.quarters * known)
    if config.transpose:
        rows = transposed(jax.random.fold_in(key_windows, 1), rows, config.transpose, pitches)

    def mean_loss(params, rows, key):
        return loss(composer, params, rows, key).mean()

    keys = {"key_dropout": key_dropout, "key": key}
    return likelihood.minibatch_step(state, config, mean_loss, rows=rows, axis=1, **keys)


# outside of log_probs, so that later calls reuse the compiled program
_log_probs = jax.jit(lambda *given: jax.nn.log_softmax(_logits(*given)), static_argnums=0)


def log_probs(
    composer: AnyComposer, params, melodies: Sequence[np.ndarray], batch_size: int = 16
) -> list[np.ndarray]:
    """Log-probabilities of all tokens at all steps of whole melodies (T_i,): float32 (T_i, size) of each."""
    order = sorted(range(len(melodies)), key=lambda i: len(melodies[i]))
    said: dict[int, np.ndarray] = {}
    for begin in range(0, len(order), batch_size):
        places = order[begin : begin + batch_size]
        tokens = _pad([melodies[i] for i in places], batch_size, len(melodies[order[-1]]))
        previous = np.concatenate([np.full((1, batch_size), composer.size), tokens[:-1]]).astype(np.int32)
        times = np.broadcast_to(np.arange(len(tokens), dtype=np.int32)[:, None], tokens.shape)
        rows = Stream(tokens, previous, times, quarters=np.zeros_like(tokens))
        found = np.asarray(_log_probs(composer, params, rows))
        said |= {i: found[: len(melodies[i]), column] for column, i in enumerate(places)}
    return [said[i] for i in range(len(melodies))]


def evaluate(composer: AnyComposer, params, melodies: Sequence[np.ndarray], batch_size: int = 16) -> float:
    """Mean bits a token of whole melodies, rows of tokens (T_i,); ValueError if there is no token."""
    melodies = [np.asarray(melody, np.int32) for melody in melodies if len(melody)]
    if not melodies:
        raise ValueError("there are no melodies with notes to evaluate on")
    said = zip(log_probs(composer, params, melodies, batch_size), melodies, strict=True)
    nats = np.concatenate([-np.take_along_axis(own, melody[:, None], axis=1) for own, melody in said])
    return float(nats.mean(dtype=np.float64)) / math.log(2)


def _pad(melodies: Sequence[np.ndarray], count: int, longest: int) -> np.ndarray:
    """Melodies as columns of equal length, int32 (T, count).

    T is a power of two from 128 on: that of the longest of all melodies, unless this is more than four times
    what these need. To compile one more program takes longer than the steps that it would save.
    """
    own, of_all = (2 ** math.ceil(math.log2(max(128, n))) for n in (max(map(len, melodies)), longest))
    padded = np.zeros((of_all if of_all <= 4 * own else own, count), np.int32)
    for column, melody in enumerate(melodies):
        padded[: len(melody), column] = melody
    return padded
