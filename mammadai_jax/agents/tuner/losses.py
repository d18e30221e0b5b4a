# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Items of the replay buffer, whole melodies or single transitions, and the losses of a minibatch of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mammadai_jax.agents.tuner.config import Config, Network
from mammadai_jax.agents.tuner.rollout import Played, action_values
from mammadai_jax.learning.sequences import positions
from mammadai_jax.objectives import soft_backups
from mammadai_jax.objectives.actions import pick


class Melody(NamedTuple):
    """Whole melodies (N, T), see Played."""

    previous_token: jax.Array
    action: jax.Array
    theory: jax.Array
    log_prior: jax.Array
    log_prob: jax.Array


class Transition(NamedTuple):
    """Single notes (N,), see Played, with the recurrent states after them.

    `after` and `prior_after` are the carries of network and prior that have read `previous_token`, but not
    the note. `log_prior` is the note's own; `log_prior_after` (N, A) that of every next note.
    """

    previous_token: jax.Array
    time: jax.Array
    action: jax.Array
    theory: jax.Array
    log_prior: jax.Array
    log_prior_after: jax.Array
    carry: Any
    after: Any
    prior_after: Any


def items(played: Played, config: Config) -> Melody | Transition:
    """Played melodies as items for the buffer: N whole ones, or N notes, those of the last step left out."""
    if config.learns_from == "melodies":
        whole = Melody(played.previous_token, played.action, played.theory, played.log_prior, played.log_prob)
        return jax.tree.map(lambda x: x.swapaxes(0, 1), whole)
    now, after = lambda x: x[:-1], lambda x: x[1:]
    notes = Transition(
        previous_token=now(played.previous_token),
        time=positions(now(played.action)),
        action=now(played.action),
        theory=now(played.theory),
        log_prior=now(pick(played.log_prior, played.action)),
        log_prior_after=after(played.log_prior),
        carry=jax.tree.map(now, played.carry),
        after=jax.tree.map(after, played.carry),
        prior_after=jax.tree.map(after, played.prior_carry) if config.drifting_prior else None,
    )
    flat = lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    return jax.tree.map(flat, notes)


def melody_loss(trained: dict, target: Any, config: Config, network: Network, batch: Melody) -> jax.Array:
    """Mean squared distance to the lambda-returns, float32 ()."""
    previous_token, action, theory, log_prior, log_prob = jax.tree.map(lambda x: x.swapaxes(0, 1), batch)
    times = positions(previous_token)
    values = action_values(network.apply(trained["network"], previous_token, times), log_prior, config)
    target_values = action_values(network.apply(target, previous_token, times), log_prior, config)
    chooser = jax.lax.stop_gradient(values)
    kind = config.algorithm, config.temperature
    log_policy = jax.nn.log_softmax(soft_backups.preferences(chooser, log_prior, *kind))
    double = chooser if config.double_q else None
    returns = soft_backups.returns(
        soft_backups.reward(theory, pick(log_prior, action), config.algorithm, config.reward_scale),
        pick(target_values, action),
        soft_backups.state_value(target_values, log_prior, *kind, chooser=double),
        config.gamma,
        soft_backups.retrace(pick(log_policy, action), log_prob, config.td_lambda),
    )
    return jnp.square(pick(values, action) - returns).mean()


def transition_loss(
    trained: dict, target: Any, config: Config, network: Network, batch: Transition
) -> jax.Array:
    """Mean squared distance to the one-step targets, float32 (); the last note's target bootstraps too.

    With `config.drifting_prior` gradients flow into the prior's part of the target, as released.
    """
    logits = lambda params, carry, *inputs: network.apply(params, carry, *inputs, method="step")[0].logits
    values = logits(trained["network"], batch.carry, batch.previous_token, batch.time)
    next_step = batch.action, batch.time + 1
    target_values = logits(target, batch.after, *next_step)
    chooser = None
    if config.double_q:
        chooser = jax.lax.stop_gradient(logits(trained["network"], batch.after, *next_step))
    log_prior = batch.log_prior_after
    if config.drifting_prior:
        log_prior = jax.nn.log_softmax(logits(trained["prior"], batch.prior_after, *next_step))
    reward = soft_backups.reward(batch.theory, batch.log_prior, config.algorithm, config.reward_scale)
    kind = config.algorithm, config.temperature
    after = soft_backups.state_value(target_values, log_prior, *kind, chooser=chooser)
    return jnp.square(pick(values, batch.action) - reward - config.gamma * after).mean()
