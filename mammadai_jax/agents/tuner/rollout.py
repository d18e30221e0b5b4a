# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Playing melodies by action values, and what the rules and the prior say of every note."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mammadai_jax.agents.tuner.config import Config, Network
from mammadai_jax.music import theory
from mammadai_jax.networks.composer import Output
from mammadai_jax.objectives import distributions, soft_backups


class Played(NamedTuple):
    """Melodies that were played, time-major (T, B).

    Attributes:
        fed: the token before each note, int32.
        action: the note, int32.
        theory: what all rules together gave for it, weighted.
        log_prior: the prior's log-probability of every note (T, B, A).
        log_prob: of the note under the policy that played it.
        carry, prior_carry: what the network and the prior remembered before `fed`.
        rules: each rule's reward by name, unweighted.

    """

    previous_token: jax.Array
    action: jax.Array
    theory: jax.Array
    log_prior: jax.Array
    log_prob: jax.Array
    carry: Any
    prior_carry: Any
    rules: dict[str, jax.Array]


def action_values(output: Output, log_prior: jax.Array, config: Config) -> jax.Array:
    """Q, Psi or G (..., A) of what the network says, see Config.value_head."""
    if not config.value_head:
        return output.logits
    values = output.value[..., None] + config.temperature * jax.nn.log_softmax(output.logits)
    return values - log_prior if config.algorithm == "g" else values


def behaviour(
    values: jax.Array, log_prior: jax.Array, config: Config, epsilon: jax.Array
) -> distributions.Categorical:
    """The distribution (B,) that notes are drawn from, given action values and log p (B, A)."""
    logits = soft_backups.preferences(values, log_prior, config.algorithm, config.temperature)
    if config.exploration == "sampling":
        return distributions.Categorical(logits)
    greedy = logits == logits.max(axis=-1, keepdims=True)
    greedy /= greedy.sum(axis=-1, keepdims=True)
    return distributions.Categorical(jnp.log((1.0 - epsilon) * greedy + epsilon / logits.shape[-1]))


def play(
    params: Any,
    prior: Any,
    config: Config,
    network: Network,
    piece: theory.Config,
    key: jax.Array,
    epsilon: float | jax.Array = 0.0,
    rules: Mapping[str, theory.Rule] = theory.RULES,
    steps: int | None = None,
) -> Played:
    """Play `config.melodies` melodies from their start.

    Args:
        params: of the network; prior: of the prior.
        config: see Config.
        network: of both.
        piece: see theory.Config.
        key: consumed.
        epsilon: probability of any note, where `config.exploration` is "epsilon".
        rules: by name.
        steps: piece.length by default.

    """
    batch, advance = config.num_envs, jax.vmap(lambda state, a: theory.advance(state, a, piece))
    rule_rewards = jax.vmap(lambda state, a: theory.reward(state, a, piece, config.rule_weights, rules))

    def note(loop, step):
        previous_token, carry, prior_carry, melody, recent = loop
        time, key, copies = step
        times = jnp.broadcast_to(time, (batch,))
        output, after = network.apply(params, carry, previous_token, times, method="step")
        opinion, prior_after = network.apply(prior, prior_carry, previous_token, times, method="step")
        log_prior = jax.nn.log_softmax(opinion.logits)
        chosen = behaviour(action_values(output, log_prior, config), log_prior, config, epsilon)
        action, log_prob = chosen.sample_and_log_prob(seed=key)
        if config.copy_lag:
            copies &= time >= config.copy_lag
            action, log_prob = jnp.where(copies, recent[0], action), jnp.where(copies, 0.0, log_prob)
            recent = jnp.concatenate([recent[1:], action[None]])
        total, each = rule_rewards(melody, action)
        played = Played(previous_token, action, total, log_prior, log_prob, carry, prior_carry, each)
        return (action, after, prior_after, advance(melody, action), recent), played

    steps = piece.length if steps is None else steps
    key_primer, key_play, key_copies = jax.random.split(key, 3)
    previous_token = jnp.full(batch, network.start, jnp.int32)
    if config.random_primer:
        previous_token = jax.random.randint(
            key_primer, (batch,), 0, network.size - 1
        )  # as released: never the last
    copies = jax.random.bernoulli(key_copies, config.copy_prob, (-(-steps // piece.bar), batch))
    copies = jnp.repeat(copies, piece.bar, axis=0)[:steps]
    melody = jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), theory.initial(piece))
    recent = jnp.zeros((config.copy_lag, batch), jnp.int32)
    first = previous_token, network.initial_carry(batch), network.initial_carry(batch), melody, recent
    return jax.lax.scan(note, first, (jnp.arange(steps), jax.random.split(key_play, steps), copies))[1]
