# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# (flax declares that apply returns a tuple)
"""The prompted composer: MusicLM (Agostinelli et al. 2023) at note level.

    loss = - mean_t log p(a_t | a_<t, t, m(a))

It is trained on melodies alone: the condition is the *music* embedding m of the excerpt itself, and the
*text* embedding of a prompt takes its place when composing. Noise on the condition makes up for the distance
between the two embeddings. In a share of the excerpts the condition is replaced by zeros, which
classifier-free guidance (Ho & Salimans 2022) needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from flax import struct

from mammadai_jax.agents.prior import State
from mammadai_jax.fields import MAX_LAYERS, MAX_WIDTH, static, traced
from mammadai_jax.learning import likelihood, rollout, sequences
from mammadai_jax.learning.optimisers import Optimiser
from mammadai_jax.learning.rollout import Policy, composer_policy
from mammadai_jax.music import captions
from mammadai_jax.music.forms import Form
from mammadai_jax.networks.composer import Composer
from mammadai_jax.objectives import distributions, sampling

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
        match_steps: how far back the passage is looked for that the last steps repeat; what followed there is
            an input. 0 for none.
        countdown: quarters before the end of a melody that are an input, if its length is told; 0 for none.
        dropout: probability that a unit is dropped while training.
        batch_size: examples in a minibatch; here excerpts.
        condition_dropout: probability that an excerpt's condition is replaced by zeros.
        condition_noise: root mean square length of the noise added to a music embedding, which has length 1.
        claim_dropout: probability that one of the claims that could be made of an excerpt is not told.
        num_updates: updates until the learning rate has fallen to zero; 0 leaves the stage out.
        optimiser: "adam", or "muon", which takes orthogonalised steps of matrices.
        learning_rate: step size of the optimiser; its peak.
        lr_warmup_steps: updates in which the learning rate rises.
        weight_decay: coefficient of AdamW's weight decay; of matrices only.
        max_grad_norm: largest global norm of the gradient.
        ema_decay: decay of the moving average of the parameters; composing uses the average.

    """

    body: Literal["lstm", "transformer"] = static("transformer")
    width: int = static(128, low=1, high=MAX_WIDTH)
    num_layers: int = static(3, low=1, high=MAX_LAYERS)
    num_heads: int = static(4, low=1)
    attention_window: int = static(256, low=1, unit="steps")
    lookback: tuple[int, ...] = static((1, 2, 4), low=1, unit="bars")
    match_steps: int = static(128, low=0, high=4096, unit="steps")
    countdown: int = static(32, low=0, high=256, unit="quarters")
    dropout: float = static(0.05, low=0, high=0.99)
    batch_size: int = static(48, low=1)
    condition_dropout: float = traced(0.1, low=0, high=1)
    condition_noise: float = traced(0.3, low=0)
    claim_dropout: float = traced(0.5, low=0, high=1)
    num_updates: int = traced(600, low=0, unit="updates")
    optimiser: Optimiser = static("muon")
    learning_rate: float = traced(3e-3, low=0)
    lr_warmup_steps: int = traced(50, low=0, unit="updates")
    weight_decay: float = traced(0.01, low=0)
    max_grad_norm: float = traced(1.0, low=0)
    ema_decay: float = traced(0.99, low=0, high=1)


@struct.dataclass
class Excerpts:
    """Excerpts that begin on a bar line, and their music embeddings.

    Attributes:
        tokens: int32 (N, T).
        embedding: float32 (N, D).
        ends: bool (N,), whether the melody ends with the excerpt.
        claims: int32 (N, attributes), what could be claimed of each, see `captions.measured`; None if the
            composer is not told.

    """

    tokens: jax.Array
    embedding: jax.Array
    ends: jax.Array
    claims: jax.Array | None = None


def make_composer(config: Config, size: int) -> Composer:
    """The network of a config, for an alphabet of `size` tokens."""
    network = ("body", "width", "num_layers", "num_heads", "attention_window", "dropout")
    inputs = ("lookback", "match_steps", "countdown")
    values = {name: getattr(config, name) for name in (*network, *inputs)}
    return Composer(size=size, metre_period=PLACES, **values)


def init(key: jax.Array, config: Config, size: int, condition_size: int) -> State:
    """A fresh learner for an alphabet of `size` tokens and conditions of `condition_size` numbers."""
    key, key_params = jax.random.split(key)
    blank = jnp.zeros((1, 1), jnp.int32)
    params = make_composer(config, size).init(key_params, blank, blank, jnp.zeros((1, condition_size)))
    return State(
        params=params,
        average=jax.tree.map(jnp.copy, params),
        opt_state=likelihood.optimiser(config).init(params),
        update=jnp.int32(0),
        key=key,
    )


def negative_log_likelihood(
    composer: Composer,
    params: Any,
    tokens: jax.Array,
    condition: jax.Array,
    key: jax.Array | None = None,
    *,
    begin: jax.Array | None = None,
) -> jax.Array:
    """-log p of every token of excerpts (B, T) under conditions (B, C), in nats, float32 (B, T).

    A key turns dropout on; `begin` are the start tokens (B,), see `sequences.negative_log_likelihood`.
    """
    chex.assert_rank([tokens, condition], 2)
    options = {"condition": condition, "begin": begin, "dropout_key": key}
    return sequences.negative_log_likelihood(composer, params, tokens.T, **options).T


def corrupt_condition(
    key_noise: jax.Array,
    key_drop: jax.Array,
    embedding: jax.Array,
    config: Config,
    claims: jax.Array | None = None,
) -> jax.Array:
    """Conditions (B, C) of excerpts: noisy embeddings, and some of what could be claimed.

    Some conditions are replaced by zeros; the keys are consumed.
    """
    chex.assert_rank(embedding, 2)
    noise = jax.random.normal(key_noise, embedding.shape) * config.condition_noise
    condition = embedding + noise / jnp.sqrt(embedding.shape[-1])
    if claims is not None:
        key = jax.random.fold_in(key_drop, 1)
        heard = jax.random.bernoulli(key, 1.0 - config.claim_dropout, claims.shape)
        inputs = captions.inputs_of(jnp.where(heard, claims, -1))
        condition = jnp.concatenate([condition, inputs], axis=-1)
    kept = jax.random.bernoulli(key_drop, 1.0 - config.condition_dropout, (len(condition), 1))
    return condition * kept


def step(
    state: State,
    config: Config,
    data: Excerpts,
    size: int,
    *,
    loss: Callable[..., jax.Array] = negative_log_likelihood,
) -> tuple[State, dict[str, jax.Array]]:
    """One update. Metrics: "bits" a step, and "grad_norm" before the clip.

    `loss` is (composer, params, tokens, condition, key, begin=) -> float32 (B, T), the loss of every token,
    where `begin` are the start tokens (B,): those of excerpts that end with their melody tell their length.
    """
    key, key_rows, key_noise, key_drop, key_dropout = jax.random.split(state.key, 5)
    composer = make_composer(config, size)
    chosen = jax.random.randint(key_rows, (config.batch_size,), 0, data.tokens.shape[0])
    tokens = data.tokens[chosen]
    claims = None if data.claims is None else data.claims[chosen]
    condition = corrupt_condition(key_noise, key_drop, data.embedding[chosen], config, claims)

    begin = jnp.where(data.ends[chosen], composer.start_of(tokens.shape[1]), composer.start)

    def mean_loss(params, rows, key):
        *rows, begin = rows
        return loss(composer, params, *rows, key, begin=begin).mean()

    options = {"rows": (tokens, condition, begin), "key_dropout": key_dropout, "key": key}
    return likelihood.minibatch_step(state, config, mean_loss, axis=0, **options)


def compose(
    composer: Composer,
    params: Any,
    key: jax.Array,
    condition: jax.Array,
    length: int,
    *,
    temperature: float | jax.Array = 1.0,
    guidance: float | jax.Array | None = None,
    allowed: jax.Array | None = None,
    form: Form | None = None,
) -> jax.Array:
    """Compose a melody for each condition -> tokens int32 (B, T).

    Args:
        composer: the network.
        params: its parameters.
        key: consumed.
        condition: of each melody, (B, C); zeros for none.
        length: steps of each melody (T).
        temperature: divisor of the logits.
        guidance: g of the logits l(unprompted) + g (l(prompted) - l(unprompted)). At 1 or None they are the
            composer's own; above 1 melodies follow their prompts more closely.
        allowed: bool (T, A), the tokens that each step may have; None for all.
        form: what melodies return to; None for nothing.

    """
    chex.assert_rank(condition, 2)
    named = {"condition": condition, "temperature": temperature, "allowed": allowed, "form": form}
    if guidance is None:
        policy, copies = functools.partial(composer_policy, **named), 1
    else:
        policy, copies = functools.partial(guided_policy, guidance=guidance, **named), 2
    return rollout.compose(
        composer, params, key, len(condition), length, make_policy=policy, copies=copies
    ).action.T


def guided_policy(
    composer: Composer,
    condition: jax.Array,
    guidance: float | jax.Array,
    temperature: float | jax.Array,
    allowed: jax.Array | None = None,
    form: Form | None = None,
) -> Policy:
    """A policy with classifier-free guidance for conditions (B, C); the rest as of composer_policy.

    Its carry has every melody twice, first with its condition and then without.
    """
    chex.assert_rank(condition, 2)
    both = jnp.concatenate([condition, jnp.zeros_like(condition)])
    form_twice = jax.tree.map(lambda part: jnp.concatenate([part, part], axis=-1), form)

    def policy(params: Any, observation: Any, carry: Any, key: jax.Array) -> tuple[Any, Any, Any]:
        token, time = (jnp.concatenate([x, x]) for x in (observation.token, observation.time))
        output, carry = composer.apply(params, carry, token, time, both, method="step")
        logits = output.logits + rollout.returning(composer, carry, time, form_twice)
        prompted, unprompted = jnp.split(logits, 2)
        logits = unprompted + guidance * (prompted - unprompted)
        logits = rollout.permitted(logits, observation.time, allowed, form)
        logits = distributions.at_temperature(logits, temperature)
        action, log_prob = sampling.sample_and_log_prob(key, logits)
        return action, log_prob, carry

    return policy
