"""Infilling: the free steps of a melody are sampled around given ones, by sequential Monte Carlo.

A composer gives each token x_t a distribution p(x_t | x_<t), here at a temperature. Wanted are melodies of

    pi(x) ~ prod_t p(x_t | x_<t) m_t(x_t)

where m_t is 1 for the tokens that step t may have and 0 for others; a given step may have one. Particles are
proposed from left to right (Gordon et al. 1993): each step is drawn from p m / Z, with Z the mass of the
allowed tokens, and weighs Z. So what a particle has in a gap counts by how well the given part after it goes
on from there. Where the effective sample size falls, particles are drawn anew by their weights; the mean
weight is an unbiased estimate of the sum of the right side. `harmonise` does so for several voices.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mammadai_jax.fields import static, traced
from mammadai_jax.learning.particles import Particles, by_piece, drawn_anew, traced_back
from mammadai_jax.networks.composer import Composer
from mammadai_jax.objectives import distributions, sampling

CHUNK = 64  # melodies of one number of such chunks share a program


@struct.dataclass
class Config:
    """Settings of infilling.

    Attributes:
        num_particles: partial melodies of which a result is drawn; 1 for sampling without look-ahead.
        temperature: divisor of the logits.
        ess_fraction: least effective sample size of the importance weights, as a share of the sample.

    """

    num_particles: int = static(64, low=1)
    temperature: float = traced(1.0, low=0)
    ess_fraction: float = traced(0.5, low=0, high=1)


class Infilled(NamedTuple):
    """A melody.

    Attributes:
        tokens: int32 (T,).
        log_prob: log p of all tokens at the temperature.
        log_evidence: the logarithm of the estimate of the sum of pi.

    """

    tokens: np.ndarray
    log_prob: float
    log_evidence: float


class _Rows(NamedTuple):
    """Partial melodies (B, ...): what the network remembers, the last token, and log p of all tokens."""

    carry: list[jax.Array]
    token: jax.Array
    log_prob: jax.Array


class _Model(NamedTuple):
    """What a program is compiled for: the network, and which leaves of its carry have a row a melody."""

    composer: Composer
    has_rows: tuple[bool, ...]


def infill(
    key: jax.Array,
    composer: Composer,
    params: Any,
    allowed: np.ndarray,
    config: Config,
    *,
    number: int = 1,
    condition: jax.Array | None = None,
) -> list[Infilled]:
    """Melodies with tokens that each step may have; the same key gives the same melodies.

    Args:
        key: consumed; result g has the key fold_in(key, g), and its own particles.
        composer: the network.
        params: its parameters.
        allowed: bool (T, A), of which every step allows one token or more.
        config: settings.
        number: results.
        condition: (C,), None for a composer without conditions.

    Raises:
        ValueError: if `allowed` is not (T, A), or a step allows no token.

    """
    allowed = np.asarray(allowed, bool)
    if allowed.ndim != 2 or not len(allowed) or allowed.shape[1] != composer.size:
        raise ValueError(f"allowed should be (steps, {composer.size}), got shape {allowed.shape}")
    if not allowed.any(axis=1).all():
        raise ValueError(f"step {int(np.argmin(allowed.any(axis=1)))} allows no token")
    if condition is not None:
        chex.assert_rank(condition, 1)
    steps = -(-len(allowed) // CHUNK) * CHUNK
    padded = np.pad(allowed, ((0, steps - len(allowed)), (0, 0)), constant_values=True)
    network = composer.clone(attention_window=min(composer.attention_window, steps))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(number))
    conditions = None if condition is None else jnp.tile(condition, (number * config.num_particles, 1))
    model = _Model(network, _has_rows(network))
    results = _infill(model, params, config, keys, (padded, len(allowed)), conditions)
    return [*_drawn(keys, len(allowed), jax.device_get(results))]


def _has_rows(composer: Composer) -> tuple[bool, ...]:
    """Which leaves of the network's carry have a row for each melody."""
    one, two = (jax.tree.leaves(jax.eval_shape(lambda n=n: composer.initial_carry(n))) for n in (1, 2))
    return tuple(a.shape != b.shape for a, b in zip(one, two, strict=True))


def _drawn(keys: jax.Array, steps: int, results: tuple[np.ndarray, ...]) -> Iterator[Infilled]:
    """One melody from the particles of each result, drawn by their weights; `results` are of `_infill`."""
    decided, ancestors, log_weight, log_prob, evidence = results
    last_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, len(decided))
    last = np.asarray(jax.vmap(jax.random.categorical)(last_keys, log_weight))
    rows = traced_back(decided[:, None], ancestors, last)[:, :steps, 0]
    chosen = log_prob.reshape(log_weight.shape)[np.arange(len(last)), last]
    yield from map(Infilled, rows, chosen.tolist(), evidence.tolist())


@functools.partial(jax.jit, static_argnums=0)
def _infill(model, params, config, keys, of_steps, condition):
    """Particles through all steps: tokens and ancestors int32 (T, G, N), and their weights at the end.

    `of_steps` is the mask (T, A), and how many of its steps count.
    """
    allowed, steps = of_steps
    groups, count = len(keys), config.num_particles
    leaves, tree = jax.tree.flatten(model.composer.initial_carry(groups * count))
    token = jnp.full(groups * count, model.composer.start_of(steps), jnp.int32)
    rows = _Rows(_select(leaves, model.has_rows), token, jnp.zeros(groups * count))
    particles = Particles(rows, jnp.zeros((groups, count)), jnp.zeros(groups))
    shared = _select(leaves, [not flag for flag in model.has_rows])

    def step(state, inputs):
        particles, shared = state
        time, mask = inputs
        carry = jax.tree.unflatten(tree, _merge(particles.rows.carry, shared, model.has_rows))
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, time)
        key_token, key_anew = jax.vmap(lambda key: jax.random.split(key))(now).T
        particles, carry = _decide(
            model, params, config, (key_token, time < steps, time, mask, carry, condition), particles
        )
        leaves = jax.tree.leaves(carry)
        rows = particles.rows._replace(carry=_select(leaves, model.has_rows))
        token = particles.rows.token.reshape(groups, count)
        particles, ancestors = drawn_anew(
            key_anew, particles._replace(rows=rows), jnp.asarray(config.ess_fraction)
        )
        return (particles, _select(leaves, [not flag for flag in model.has_rows])), (token, ancestors)

    inputs = jnp.arange(len(allowed)), jnp.asarray(allowed)
    (particles, _), (decided, ancestors) = jax.lax.scan(step, (particles, shared), inputs)
    return decided, ancestors, particles.log_weight, particles.rows.log_prob, particles.evidence


def _decide(model, params, config, step, particles):
    """The next token of all particles -> particles, the network's carry."""
    key, counts, time, mask, carry, condition = step
    rows = particles.rows
    times = jnp.full(rows.token.shape, time)
    output, carry = model.composer.apply(params, carry, rows.token, times, condition, method="step")
    log_p = jax.nn.log_softmax(distributions.at_temperature(output.logits, config.temperature))
    logits = jnp.where(mask, log_p, distributions.LEAST)
    token, _ = by_piece(sampling.sample_and_log_prob, key, logits)
    chosen = jnp.take_along_axis(log_p, token[:, None], axis=1)[:, 0]
    weight = jnp.where(mask.all(), 0.0, jax.nn.logsumexp(logits, axis=-1))
    rows = rows._replace(token=token, log_prob=rows.log_prob + jnp.where(counts, chosen, 0.0))
    log_weight = particles.log_weight + weight.reshape(particles.log_weight.shape)
    return particles._replace(rows=rows, log_weight=log_weight), carry


def _select(leaves, flags):
    """The leaves whose flag is set."""
    return [leaf for leaf, flag in zip(leaves, flags, strict=True) if flag]


def _merge(of_rows, shared, flags):
    """All leaves of a carry, in their order."""
    rows, others = iter(of_rows), iter(shared)
    return [next(rows) if flag else next(others) for flag in flags]
