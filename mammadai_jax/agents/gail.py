# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Generative adversarial imitation learning (Ho & Ermon 2016), over notes.

A discriminator separates the expert's transitions (observation, action) from the policy's; its logit gives
the reward of PPO:

    min_pi max_D  E_expert[log D(s, a)] + E_pi[log(1 - D(s, a))] - lambda H(pi)

Here D is the probability of the *expert*, and networks give its logit h = log D - log(1 - D). At the optimum
h(s, a) = log rho_expert(s, a) - log rho_pi(s, a). Losses, the gradient penalty and reward forms are in
objectives/discriminator.py; `step` takes others in their place.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Protocol

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.agents import ppo
from mammadai_jax.agents.cloning import Demonstrations
from mammadai_jax.environments import Environment
from mammadai_jax.fields import MAX_WIDTH, static, traced
from mammadai_jax.learning import collectives, optimisers
from mammadai_jax.music.notes import Alphabet
from mammadai_jax.networks.mlp import Discriminator
from mammadai_jax.objectives.discriminator import (
    REWARDS,
    Loss,
    RewardFn,
    RewardForm,
    Transitions,
    gail_loss,
    with_gradient_penalty,
)

WIDEST = 13  # semitones; larger intervals are clipped


@struct.dataclass
class Config:
    """Settings of GAIL.

    Attributes:
        ppo: settings of the policy's PPO.
        reward_form: reward of the discriminator's logit, see objectives/discriminator.py.
        hidden: units of each hidden layer; of the discriminator.
        lipschitz: bound of the discriminator by spectral normalisation; None for no bound.
        context_length: latest notes that the discriminator sees. One is GAIL as published, over (s, a); with
            more it sees rhythm and motion, also where the policy sees nothing but the accompaniment.
        disc_updates: minibatches of the discriminator in an update.
        batch_size: examples in a minibatch; here transitions of the expert and as many of the policy.
        learning_rate: step size of the optimiser; of the discriminator.
        disc_ent_coef: weight of the discriminator's entropy in its loss.
        gradient_penalty_coef: weight of the gradient penalty; None for no penalty.
        kl_coef: reward that a nat of divergence from the reference costs; the reference is the policy before
            imitation. Where the discriminator's reward is flat, the penalty keeps the policy from drifting.

    """

    ppo: ppo.Config = traced(default_factory=ppo.Config)
    reward_form: RewardForm = static("logit")
    hidden: tuple[int, ...] = static((100,), low=1, high=MAX_WIDTH)
    lipschitz: float | None = static(None, low=0)
    context_length: int = static(1, low=1)
    disc_updates: int = static(8, low=1)
    batch_size: int = static(256, low=1)
    learning_rate: float = traced(1e-3, low=0)
    disc_ent_coef: float = traced(1e-3, low=0)
    gradient_penalty_coef: float | None = traced(None, low=0)
    kl_coef: float = traced(0.0, low=0, unit="reward per nat")


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        policy: of PPO.
        reference: the policy's parameters before imitation, see Config.kl_coef.
        discriminator: its parameters.
        opt_state: of the discriminator's optimiser.
        update: int32, number of updates made.
        key: of the next update.

    """

    policy: ppo.State
    reference: Any
    discriminator: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array = collectives.own()


def make_discriminator(config: Config) -> Discriminator:
    """The discriminator's network."""
    return Discriminator(config.hidden, config.lipschitz)


def make_loss(config: Config) -> Loss:
    """The discriminator's loss of a config."""
    loss = gail_loss(config.disc_ent_coef)
    if config.gradient_penalty_coef is None:
        return loss
    return with_gradient_penalty(loss, config.gradient_penalty_coef)


class Minibatches(Protocol):
    """What a config says of a discriminator's minibatches, see Config."""

    disc_updates: int
    batch_size: int
    learning_rate: float


def optimiser(config: Minibatches) -> optax.GradientTransformation:
    """The discriminator's Adam."""
    return optax.adam(config.learning_rate, b1=0.5)


def init(key: jax.Array, config: Config, env: Environment, warm_start: Any = None) -> State:
    """A new learner; `warm_start` are parameters of a policy to begin with, from cloning."""
    key, key_policy, key_discriminator = jax.random.split(key, 3)
    key_policy, key_params = jax.random.split(key_policy)
    blank = jnp.zeros(env.observation_size)
    params = warm_start
    if params is None:
        params = ppo.make_network(config.ppo, env).init(key_params, blank)
    policy = ppo.State(params, ppo.optimiser(config.ppo).init(params), jnp.int32(0), (), key_policy)
    silence = jnp.zeros(1, jnp.int32)
    features = motion(silence, silence, config.context_length, env.alphabet)
    discriminator = make_discriminator(config).init(key_discriminator, blank[None], features)
    opt_state = optimiser(config).init(discriminator)
    return State(policy, jax.tree.map(jnp.copy, params), discriminator, opt_state, jnp.int32(0), key)


def motion(action: jax.Array, step: jax.Array, count: int, alphabet: Alphabet) -> jax.Array:
    """Features of the last `count` notes at each step: the action, and its intervals to the notes before.

    For each earlier note there is its interval to the present one, clipped at an octave and a semitone, or
    which of the two is silent, one-hot. So notes that are held, repeated or approached by step look alike in
    every key. Before a melody's start there is silence.

    Args:
        action: int32 (N,), the actions of melody after melody.
        step: int32 (N,), the place of each in its melody.
        count: number of notes.
        alphabet: of the actions.

    Returns:
        float32 (N, actions + (count - 1) * 30).

    """
    chex.assert_rank([action, step], 1)
    chex.assert_equal_shape([action, step])
    rows = [jax.nn.one_hot(action, alphabet.size)]
    for back in range(1, count):
        earlier = jnp.where(step >= back, jnp.roll(action, back), alphabet.silence)
        silent, silent_before = action == alphabet.silence, earlier == alphabet.silence
        interval = jnp.clip(earlier - action, -WIDEST, WIDEST) + WIDEST
        which = 2 * WIDEST + silent + 2 * silent_before
        rows.append(jax.nn.one_hot(jnp.where(silent | silent_before, which, interval), 2 * WIDEST + 4))
    return jnp.concatenate(rows, axis=1)


def played_transitions(trajectory: ppo.Trajectory, config: Config, alphabet: Alphabet) -> Transitions:
    """A trajectory (T, B) of whole melodies as transitions (B * T,), melody after melody."""
    observation, action = (
        x.swapaxes(0, 1).reshape(-1, *x.shape[2:]) for x in (trajectory.observation, trajectory.action)
    )
    place = jnp.arange(action.shape[0]) % trajectory.action.shape[0]
    return Transitions(observation, motion(action, place, config.context_length, alphabet))


def demonstrated_transitions(demos: Demonstrations, config: Config, alphabet: Alphabet) -> Transitions:
    """Demonstrations (N,) as transitions; `demos.step` is needed where more than one note is seen."""
    place = demos.step if config.context_length > 1 else jnp.zeros_like(demos.action)
    return Transitions(demos.observation, motion(demos.action, place, config.context_length, alphabet))


def update_discriminator(
    params: Any,
    opt_state: Any,
    config: Minibatches,
    demo: Transitions,
    played: Transitions,
    key: jax.Array,
    *,
    network: Any,
    loss: Loss,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """Minibatches of the discriminator's loss -> params, opt_state, metrics.

    Args:
        params: of the discriminator.
        opt_state: of its optimiser.
        config: of the minibatches.
        demo: the expert's transitions (N,).
        played: the policy's (M,).
        key: of the minibatches, drawn with replacement, and of the loss.
        network: of the discriminator: `apply(params, observation, action)` are the logits (N,).
        loss: see objectives/discriminator.py.

    """
    chex.assert_rank([*demo, *played], 2)

    def draw(key, side):
        rows = jax.random.randint(key, (config.batch_size,), 0, side.action.shape[0])
        return jax.tree.map(lambda x: x[rows], side)

    def minibatch_step(carry, key):
        params, opt_state = carry
        key_demo, key_played, key_loss = jax.random.split(key, 3)
        sides = draw(key_demo, demo), draw(key_played, played)
        objective = lambda p: loss(functools.partial(network.apply, p), *sides, key_loss)
        (_, metrics), gradient = collectives.value_and_grad(objective)(params)
        return optimisers.step(optimiser(config), params, opt_state, gradient=gradient), metrics

    (params, opt_state), metrics = jax.lax.scan(
        minibatch_step, (params, opt_state), jax.random.split(key, config.disc_updates)
    )
    return params, opt_state, jax.tree.map(jnp.mean, metrics)


def rewarded(
    state: State,
    config: Config,
    env: Environment,
    trajectory: ppo.Trajectory,
    played: Transitions,
    reward_fn: RewardFn,
) -> tuple[ppo.Trajectory, dict[str, jax.Array]]:
    """A trajectory with the discriminator's reward less the KL penalty, and metrics.

    Args:
        state: whose discriminator and reference are used.
        config: see Config.
        env: the environment.
        trajectory: (T, B).
        played: the same notes as transitions (B * T,), melody after melody.
        reward_fn: the reward of a logit, elementwise.

    """
    logits = make_discriminator(config).apply(state.discriminator, *played)
    logits = logits.reshape(trajectory.action.shape[::-1]).T
    reference = ppo.log_prob(state.reference, ppo.make_network(config.ppo, env), trajectory)
    divergence = trajectory.log_prob - reference
    reward = reward_fn(logits) - config.kl_coef * divergence
    metrics = {
        "reward": reward.mean(),
        "kl": divergence.mean(),
        "rest_rate": (trajectory.action == env.alphabet.silence).mean(),
    }
    return trajectory._replace(reward=reward), metrics


def step(
    state: State,
    config: Config,
    env: Environment,
    env_params: Any,
    demos: Demonstrations,
    *,
    loss: Loss | None = None,
    reward_fn: RewardFn | None = None,
) -> tuple[State, dict[str, jax.Array]]:
    """One update: play whole melodies, train the discriminator, then the policy on its reward.

    Args:
        state: see State.
        config: see Config.
        env: the environment.
        env_params: its params.
        demos: the expert's melodies.
        loss: of the discriminator, see objectives/discriminator.py; `make_loss(config)` by default.
        reward_fn: the reward of a logit, elementwise; that of `config.reward_form` by default.

    Returns:
        The state, and metrics: those of the loss, of PPO and of `rewarded`.

    """
    key, key_play, key_discriminator, key_policy = jax.random.split(state.key, 4)
    trajectory = collectives.each(ppo.play, state.policy.params, config.ppo, env, env_params, key_play)
    played = played_transitions(trajectory, config, env.alphabet)
    demo = demonstrated_transitions(demos, config, env.alphabet)
    inputs = state.discriminator, state.opt_state, config, demo, played, key_discriminator
    loss = make_loss(config) if loss is None else loss
    discriminator, opt_state, disc_metrics = update_discriminator(
        *inputs, network=make_discriminator(config), loss=loss
    )
    state = dataclasses.replace(state, discriminator=discriminator, opt_state=opt_state)
    reward_fn = REWARDS[config.reward_form] if reward_fn is None else reward_fn
    trajectory, metrics = collectives.each(rewarded, state, config, env, trajectory, played, reward_fn)
    old, network = state.policy, ppo.make_network(config.ppo, env)
    params, policy_opt_state, policy_metrics = ppo.update_policy(
        old.params, old.opt_state, config.ppo, network, trajectory, key_policy
    )
    policy = dataclasses.replace(old, params=params, opt_state=policy_opt_state, update=old.update + 1)
    state = dataclasses.replace(state, policy=policy, update=state.update + 1, key=key)
    return state, {**disc_metrics, **policy_metrics, **metrics}
