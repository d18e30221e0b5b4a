# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""The prior: a composer trained by maximum likelihood on melodies (the Note-RNN of Jaques et al. 2017).

    loss = - mean_t log p(a_t | a_<t, t)

The corpus is one long row of tokens in which start tokens separate melodies. A minibatch is a set of windows
cut at random places, so that no token is padding; a window that begins within a melody merely knows less.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from mammadai_jax.fields import static, traced
from mammadai_jax.learning import collectives, microbatches
from mammadai_jax.networks.composer import Composer


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
        dropout: probability that a unit is dropped while training.
        batch_size: examples in a minibatch; here windows of the corpus.
        sequence_length: steps of a window.
        num_updates: updates until the learning rate has fallen to zero.
        learning_rate: step size of the optimiser; its peak.
        lr_warmup_steps: updates in which the learning rate rises.
        weight_decay: coefficient of AdamW's weight decay; of matrices only.
        max_grad_norm: largest global norm of the gradient.
        ema_decay: decay of the moving average of the parameters; evaluation and composing use the average.

    """

    body: Literal["lstm", "transformer"] = static("lstm")
    width: int = static(256, low=1)
    num_layers: int = static(1, low=1)
    num_heads: int = static(4, low=1)
    attention_window: int = static(256, low=1, unit="steps")
    metre: bool = static(True)
    lookback: tuple[int, ...] = static((1, 2, 4, 8), low=1, unit="bars")
    dropout: float = static(0.15, low=0, high=0.99)
    batch_size: int = static(32, low=1)
    sequence_length: int = static(192, low=1, unit="steps")
    num_updates: int = traced(800, low=1, unit="updates")
    learning_rate: float = traced(4e-3, low=0)
    lr_warmup_steps: int = traced(50, low=0, unit="updates")
    weight_decay: float = traced(0.01, low=0)
    max_grad_norm: float = traced(1.0, low=0)
    ema_decay: float = traced(0.99, low=0, high=1)


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the composer; average: their running average.
        opt_state: of the optimiser.
        update: int32, how many updates were made.
        key: of the next update.

    """

    params: Any
    average: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array = collectives.own()


@struct.dataclass
class Stream:
    """Melodies in one row: int32 (N,) `tokens`, of each the `previous` one and its time in its melody."""

    tokens: jax.Array
    previous: jax.Array
    times: jax.Array


def stream(melodies: Sequence[np.ndarray], size: int) -> Stream:
    """Lay token rows (T_i,) of an alphabet of `size` end to end; ValueError without any token."""
    melodies = [np.asarray(m, np.int32) for m in melodies if len(m)]
    if not melodies:
        raise ValueError("the corpus has no notes: nothing to learn from")
    previous = [np.concatenate([[size], m[:-1]]) for m in melodies]
    rows = (melodies, previous, [np.arange(len(m)) for m in melodies])
    return Stream(*(jnp.asarray(np.concatenate(row), jnp.int32) for row in rows))


def make_composer(config: Config, size: int) -> Composer:
    """The network that a config describes, for an alphabet of `size` tokens."""
    names = ("body", "width", "num_layers", "num_heads", "attention_window", "metre", "lookback", "dropout")
    return Composer(size=size, **{name: getattr(config, name) for name in names})


def optimiser(config: Config) -> optax.GradientTransformation:
    """AdamW behind a gradient clip, warmed up and annealed to zero."""

    def rate(count):
        warm = jnp.minimum(1.0, (count + 1) / jnp.maximum(config.lr_warmup_steps, 1))
        done = jnp.clip(count / config.num_updates, 0.0, 1.0)
        return config.learning_rate * warm * 0.5 * (1.0 + jnp.cos(jnp.pi * done))

    matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(b2=0.99),
        optax.add_decayed_weights(config.weight_decay, mask=matrices),
        optax.scale_by_learning_rate(rate),
    )


def init(key: jax.Array, config: Config, size: int) -> State:
    """A fresh learner for an alphabet of `size` tokens."""
    key, key_params = jax.random.split(key)
    blank = jnp.zeros((1, 1), jnp.int32)
    params = make_composer(config, size).init(key_params, blank, blank)
    opt_state = optimiser(config).init(params)
    return State(
        params=params,
        average=jax.tree.map(jnp.copy, params),
        opt_state=opt_state,
        update=jnp.int32(0),
        key=key,
    )


def windows(key: jax.Array, data: Stream, batch: int, window: int) -> Stream:
    """Cut `batch` windows of `window` steps at random places -> Stream of (window, batch)."""
    total = data.tokens.shape[0]
    window = min(window, total)
    begins = jax.random.randint(key, (batch,), 0, total - window + 1)
    places = begins[None, :] + jnp.arange(window)[:, None]
    return jax.tree.map(lambda row: row[places], data)


def negative_log_likelihood(composer: Composer, params, rows: Stream, key=None) -> jax.Array:
    """-log p of every token of rows (T, B), in nats, float32 (T, B); with a key, under dropout."""
    chex.assert_rank(rows.tokens, 2)
    rngs = None if key is None else {"dropout": key}
    output = composer.apply(params, rows.previous, rows.times, deterministic=key is None, rngs=rngs)
    return optax.losses.softmax_cross_entropy_with_integer_labels(output.logits, rows.tokens)


def step(state: State, config: Config, data: Stream, size: int) -> tuple[State, dict[str, jax.Array]]:
    """One update. Metrics: bits a step, gradient norm."""
    key, key_windows, key_dropout = jax.random.split(state.key, 3)
    composer = make_composer(config, size)
    rows = windows(key_windows, data, config.batch_size, config.sequence_length)

    def loss(params, rows, key):
        return negative_log_likelihood(composer, params, rows, key).mean()

    return minibatch_step(state, config, loss, rows, axis=1, key_dropout=key_dropout, key=key)


def gradient_of(config: Config, loss: Callable, num_steps: int, axis: int) -> Callable:
    """Value and gradient of loss(params, rows, key), rows having melodies on `axis`; see `microbatches`.

    An LSTM reads all melodies at once, as its products are small ones.
    """
    taken = functools.partial(microbatches.value_and_grad, num_steps=num_steps, axes=axis)
    own = taken if config.body == "transformer" else jax.value_and_grad
    return collectives.value_and_grad(loss, has_aux=False, taken=own)


def minibatch_step(
    state: State,
    config: Config,
    loss: Callable[[Any, Any, jax.Array], jax.Array],
    rows: Any,
    *,
    axis: int,
    key_dropout: jax.Array,
    key: jax.Array,
) -> tuple[State, dict[str, jax.Array]]:
    """One update, and the running average's. Metrics: bits a step, gradient norm.

    Args:
        state: of the learner.
        config: of the learner.
        loss: parameters, rows, a key for dropout -> mean nats a step, float32 ().
        rows: arrays with the melodies on `axis`; the first is of tokens, (B, T) or (T, B).
        axis: of the melodies.
        key_dropout: consumed.
        key: the next state's.

    """
    num_steps = jax.tree.leaves(rows)[0].shape[1 - axis]
    nats, gradient = gradient_of(config, loss, num_steps, axis)(state.params, rows, key_dropout)
    updates, opt_state = optimiser(config).update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # early on the average follows quickly, so that the initial parameters do not linger in it
    decay = jnp.minimum(config.ema_decay, (1.0 + state.update) / (10.0 + state.update))
    average = optax.incremental_update(params, state.average, 1.0 - decay)
    metrics = {"bits": nats / math.log(2), "grad_norm": optax.tree.norm(gradient)}
    return State(params, average, opt_state, state.update + 1, key), metrics


# outside of evaluate, so that a later evaluation finds the program compiled
_score = jax.jit(negative_log_likelihood, static_argnums=0)


def evaluate(composer: Composer, params, melodies: Sequence[np.ndarray], batch: int = 16) -> float:
    """Mean bits a token over whole melodies (rows of tokens of any lengths); ValueError without any token."""
    ordered = sorted((np.asarray(m, np.int32) for m in melodies if len(m)), key=len)
    if not ordered:
        raise ValueError("there are no melodies with notes to evaluate on")
    nats, tokens = 0.0, 0
    for begin in range(0, len(ordered), batch):
        group = ordered[begin : begin + batch]
        # a few lengths only, so that few programs are compiled; full batches for the same reason
        steps = math.ceil(max(map(len, group)) / 128) * 128
        padded = np.full((batch, steps), 0, np.int32)
        mask = np.zeros((batch, steps), bool)
        for row, melody in enumerate(group):
            padded[row, : len(melody)] = melody
            mask[row, : len(melody)] = True
        previous = np.concatenate([np.full((batch, 1), composer.size, np.int32), padded[:, :-1]], axis=1)
        times = np.broadcast_to(np.arange(steps, dtype=np.int32), padded.shape)
        rows = Stream(*(jnp.asarray(x.T) for x in (padded, previous, times)))
        nats += float(np.asarray(_score(composer, params, rows)).T[mask].sum(dtype=np.float64))
        tokens += int(mask.sum())
    return nats / tokens / math.log(2)
