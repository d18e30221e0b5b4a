# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# (flax declares that apply returns a tuple)
"""The prompted composer: MusicLM (Agostinelli et al. 2023) at note level.

    loss = - mean_t log p(a_t | a_<t, t, m(a))

It learns from melodies alone: the condition is the *music* embedding m of the very excerpt it writes, so no
captions are needed, and a prompt's *text* embedding takes its place later. Noise on the condition makes up
for the distance between the two, and dropping it now and then teaches to write without any, which
classifier-free guidance (Ho & Salimans 2022) needs.
"""

from __future__ import annotations

from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.agents import prior
from mammadai_jax.agents.prior import State
from mammadai_jax.fields import static, traced
from mammadai_jax.learning import rollout
from mammadai_jax.networks.composer import Composer
from mammadai_jax.objectives import distributions

PLACES = 48  # a common multiple of bars of 8, 12 and 16 steps


@struct.dataclass
class Config:
    """Settings of the prompted composer.

    The learning rate rises linearly over the warm-up and then falls to zero along a cosine.

    Attributes:
        body: network of the composer, "lstm" or "transformer".
        width: units of each layer.
        num_layers: layers of the network.
        num_heads: heads of each attention layer.
        attention_window: earlier steps that attention can read.
        lookback: distances in bars; the token so far back is an input.
        dropout: probability that a unit is dropped while training.
        batch_size: examples in a minibatch; here excerpts.
        condition_dropout: probability that an excerpt's condition is replaced by zeros.
        condition_noise: root mean square length of the noise added to a condition; a condition has length 1.
        num_updates: updates until the learning rate has fallen to zero.
        learning_rate: step size of the optimiser; its peak.
        lr_warmup_steps: updates in which the learning rate rises.
        weight_decay: coefficient of AdamW's weight decay; of matrices only.
        max_grad_norm: largest global norm of the gradient.
        ema_decay: decay of the moving average of the parameters; composing uses the average.

    """

    body: Literal["lstm", "transformer"] = static("transformer")
    width: int = static(128, low=1)
    num_layers: int = static(3, low=1)
    num_heads: int = static(4, low=1)
    attention_window: int = static(256, low=1, unit="steps")
    lookback: tuple[int, ...] = static((1, 2, 4), low=1, unit="bars")
    dropout: float = static(0.05, low=0, high=0.99)
    batch_size: int = static(48, low=1)
    condition_dropout: float = traced(0.1, low=0, high=1)
    condition_noise: float = traced(0.3, low=0)
    num_updates: int = traced(600, low=1, unit="updates")
    learning_rate: float = traced(3e-3, low=0)
    lr_warmup_steps: int = traced(50, low=0, unit="updates")
    weight_decay: float = traced(0.01, low=0)
    max_grad_norm: float = traced(1.0, low=0)
    ema_decay: float = traced(0.99, low=0, high=1)


@struct.dataclass
class Excerpts:
    """Excerpts int32 (N, T) that begin on a bar line, and the music embedding of each, float32 (N, C)."""

    tokens: jax.Array
    condition: jax.Array


def make_composer(config: Config, size: int) -> Composer:
    """The network that a config describes, for an alphabet of `size` tokens."""
    names = ("body", "width", "num_layers", "num_heads", "attention_window", "lookback", "dropout")
    return Composer(size=size, metre_period=PLACES, **{name: getattr(config, name) for name in names})


def init(key: jax.Array, config: Config, size: int, condition_size: int) -> State:
    """A fresh learner for an alphabet of `size` tokens and conditions of so many numbers."""
    key, key_params = jax.random.split(key)
    blank = jnp.zeros((1, 1), jnp.int32)
    composer = make_composer(config, size)
    params = composer.init(key_params, blank, blank, jnp.zeros((1, condition_size)))
    return State(
        params=params,
        average=jax.tree.map(jnp.copy, params),
        opt_state=prior.optimiser(config).init(params),
        update=jnp.int32(0),
        key=key,
    )


def negative_log_likelihood(
    composer: Composer, params: Any, tokens: jax.Array, condition: jax.Array, key: jax.Array | None = None
) -> jax.Array:
    """-log p of every token of excerpts (B, T) under conditions (B, C), in nats, float32 (B, T).

    Under dropout with a key.
    """
    chex.assert_rank([tokens, condition], 2)
    tokens = tokens.T
    previous_token = jnp.concatenate([jnp.full_like(tokens[:1], composer.start), tokens[:-1]])
    times = jnp.broadcast_to(jnp.arange(len(tokens))[:, None], tokens.shape)
    rngs = None if key is None else {"dropout": key}
    output = composer.apply(params, previous_token, times, condition, deterministic=key is None, rngs=rngs)
    return optax.losses.softmax_cross_entropy_with_integer_labels(output.logits, tokens).T


def step(state: State, config: Config, data: Excerpts, size: int) -> tuple[State, dict[str, jax.Array]]:
    """One update. Metrics: bits a step, gradient norm."""
    key, key_rows, key_noise, key_drop, key_dropout = jax.random.split(state.key, 5)
    composer = make_composer(config, size)
    rows = jax.random.randint(key_rows, (config.batch_size,), 0, data.tokens.shape[0])
    tokens, condition = data.tokens[rows], data.condition[rows]
    width = condition.shape[-1]
    noise = jax.random.normal(key_noise, condition.shape) * config.condition_noise / jnp.sqrt(width)
    kept = jax.random.bernoulli(key_drop, 1.0 - config.condition_dropout, (config.batch_size, 1))
    condition = (condition + noise) * kept

    def loss(params, rows, key):
        return negative_log_likelihood(composer, params, *rows, key).mean()

    rows = (tokens, condition)
    return prior.minibatch_step(state, config, loss, rows, axis=0, key_dropout=key_dropout, key=key)


def compose(
    composer: Composer,
    params: Any,
    key: jax.Array,
    condition: jax.Array,
    length: int,
    temperature: float | jax.Array = 1.0,
    guidance: float | jax.Array | None = None,
) -> jax.Array:
    """Write a melody for each condition -> tokens int32 (B, T).

    Args:
        composer: the network.
        params: its parameters.
        key: consumed.
        condition: of each melody, (B, C); zeros for none.
        length: steps each (T).
        temperature: divides the logits.
        guidance: g of l(unprompted) + g (l(prompted) - l(unprompted)), for the logits l; 1 or None is the
            composer as it is, above it follows its prompts more closely.

    """
    batch = condition.shape[0]
    if guidance is None:
        played = rollout.compose(composer, params, key, batch, length, temperature, condition)
        return played.action.T
    both = jnp.concatenate([condition, jnp.zeros_like(condition)])

    def note(composer, loop, now):
        (carry, token), (time, key) = loop, now
        previous_token = jnp.concatenate([token, token]), jnp.full(2 * batch, time)
        output, carry = composer.apply(params, carry, *previous_token, both, method="step")
        prompted, unprompted = jnp.split(output.logits, 2)
        logits = unprompted + guidance * (prompted - unprompted)
        token = distributions.Categorical(logits / temperature).sample(seed=key)
        return (carry, token), token

    first = jnp.full(batch, composer.start, jnp.int32)
    inputs = jnp.arange(length), jax.random.split(key, length)
    return rollout.write(composer, 2 * batch, note, first, inputs).T
