# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Playing melodies by action values, with the rules' rewards and the prior's opinion of every note."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mammadai_jax.agents.tuner.config import Config, Network
from mammadai_jax.environments import MelodyState, Polyphonic, Theory
from mammadai_jax.learning.rollout import Policy, rollout
from mammadai_jax.networks.composer import Output
from mammadai_jax.objectives import distributions, soft_backups


class Played(NamedTuple):
    """Melodies that were played, time-major (T, B).

    Attributes:
        previous_token: the token before each note, int32.
        action: the note, int32.
        theory: the weighted sum of the rules' rewards for it.
        log_prior: the prior's log-probability of every note (T, B, A).
        log_prob: of the note under the policy that played it.
        carry, prior_carry: recurrent states of the network and the prior before they read `previous_token`.
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
    """Q, Psi or G (..., A) from the network's output, given log p (..., A).

    With transitions the logits are the action values, as published. With melodies the value head gives the
    level of a state's action values and the logits the policy alone, so that the policy starts as the prior.
    """
    if config.learns_from == "transitions":
        return output.logits
    values = output.value[..., None] + config.temperature * jax.nn.log_softmax(output.logits)
    return values - log_prior if config.algorithm == "g" else values


def behaviour(
    values: jax.Array, log_prior: jax.Array, config: Config, epsilon: jax.Array
) -> distributions.Categorical:
    """The distribution (B,) that notes are drawn from, given action values and log p (B, A)."""
    chex.assert_equal_shape([values, log_prior])
    logits = soft_backups.preferences(values, log_prior, config.algorithm, config.temperature)
    if config.exploration == "sampling":
        return distributions.Categorical(logits)
    greedy = logits == logits.max(axis=-1, keepdims=True)
    greedy /= greedy.sum(axis=-1, keepdims=True)
    return distributions.Categorical(jnp.log((1.0 - epsilon) * greedy + epsilon / logits.shape[-1]))


def make_policy(prior: Any, config: Config, network: Network, epsilon: float | jax.Array) -> Policy:
    """The behaviour policy over MelodyState (B,); its carry is the network's and the prior's.

    Beside the log-probability it records log p (B, A) and both carries from before the note.
    """

    def policy(params, observation, carries, key):
        inputs = observation.token, observation.time
        output, carry = network.apply(params, carries[0], *inputs, method="step")
        opinion, prior_carry = network.apply(prior, carries[1], *inputs, method="step")
        log_prior = jax.nn.log_softmax(opinion.logits)
        chosen = behaviour(action_values(output, log_prior, config), log_prior, config, epsilon)
        action, log_prob = chosen.sample_and_log_prob(seed=key)
        return action, (log_prob, log_prior, *carries), (carry, prior_carry)

    return policy


def play(
    params: Any,
    prior: Any,
    config: Config,
    network: Network,
    env: Theory | Polyphonic,
    key: jax.Array,
    *,
    epsilon: float | jax.Array = 0.0,
    num_steps: int | None = None,
) -> Played:
    """Play B = `config.num_envs` melodies from their start -> Played (T, B, ...).

    Args:
        params: of the network.
        prior: parameters of the prior.
        config: see Config.
        network: of both.
        env: gives the rewards.
        key: consumed.
        epsilon: probability of a random note, where `config.exploration` is "epsilon".
        num_steps: length of the trajectory, T; the environment's length by default.

    """
    env.check_size(network.size)
    batch, env_params = config.num_envs, env.default_params
    key_primer, key_play, key_reset = jax.random.split(key, 3)
    states = jax.vmap(env.initial, (0, None))(jax.random.split(key_reset, batch), env_params)
    if config.random_primer:  # as released: never the last token
        primer = jax.random.randint(key_primer, (batch,), 0, network.size - 1)
        states = states.replace(token=primer)

    def advance(state, action):
        return env.advance(state, action, env_params), env.rule_rewards(state, action)

    carry = network.initial_carry(batch), network.initial_carry(batch)
    trajectory = rollout(
        make_policy(prior, config, network, epsilon), params, carry, states, key_play,
        env.config.length if num_steps is None else num_steps,
        advance=jax.vmap(advance),
        observe=lambda state: MelodyState(state.time, state.token),
    )[0]  # fmt: skip
    log_prob, log_prior, carry, prior_carry = trajectory.log_prob
    theory, rules = trajectory.reward
    return Played(
        trajectory.observation.token,
        trajectory.action,
        theory,
        log_prior,
        log_prob,
        carry,
        prior_carry,
        rules,
    )
