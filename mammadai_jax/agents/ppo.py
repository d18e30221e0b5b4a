# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Proximal policy optimisation (Schulman et al. 2017) over whole melodies.

    L(theta) = E[ -min(r A, clip(r, 1 - e, 1 + e) A) + c_v L_V - c_e H ],   r = pi(a|s) / pi_old(a|s)

Every melody is played from its start to its end, so nothing is ever bootstrapped across a cut: the
value after the last note is 0. `step` learns from an environment's own reward; `play` and `improve` are its
two halves, which gail.py joins with a learned reward between them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.environments import Environment
from mammadai_jax.learning import collectives, minibatches
from mammadai_jax.learning.rollout import Policy, Trajectory, rollout
from mammadai_jax.networks.mlp import ActorCritic
from mammadai_jax.objectives import distributions, policy_losses, returns, value_losses

static = functools.partial(struct.field, pytree_node=False)


@struct.dataclass
class Config:
    """How the policy learns. Fields marked *static* change the program; the rest may be traced and swept.

    Attributes:
        hidden: units of each hidden layer (static).
        num_envs: played in an update (static); num_steps: of each (static), the environment's whole length.
        num_epochs, num_minibatches: passes over an update's notes and parts of each pass (static).
        learning_rate: of Adam, constant.
        gamma, gae_lambda: gamma and lambda of generalised advantage estimation.
        clip_eps: of the probability ratio.
        vf_clip_eps: of the value's change, in units of the return; None leaves it free.
        vf_coef, ent_coef: in the loss.
        max_grad_norm: largest global gradient norm.
        normalize_advantages: whether advantages are standardised within a minibatch (static).

    """

    hidden: tuple[int, ...] = static(default=(64, 64))
    num_envs: int = static(default=16)
    num_steps: int = static(default=256)
    num_epochs: int = static(default=4)
    num_minibatches: int = static(default=8)
    learning_rate: float = 1e-3
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_eps: float = 0.2
    vf_clip_eps: float | None = None
    vf_coef: float = 0.5
    ent_coef: float = 0.0
    max_grad_norm: float = 0.5
    normalize_advantages: bool = static(default=True)


@struct.dataclass
class State:
    """Everything that must survive a crash: `params`, `opt_state`, the `update` count and the `key`."""

    params: Any
    opt_state: Any
    update: jax.Array
    key: jax.Array = collectives.own()


class Batch(NamedTuple):
    """Notes to learn from, each (N, ...): what was seen, played, expected, and how it turned out."""

    observation: Any
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


def network(config: Config, env: Environment) -> ActorCritic:
    """The policy and value networks for an environment."""
    return ActorCritic(env.num_actions, config.hidden)


def optimiser(config: Config) -> optax.GradientTransformation:
    """Adam with epsilon 1e-5 behind a global-norm clip."""
    clip = optax.clip_by_global_norm(config.max_grad_norm)
    return optax.chain(clip, optax.adam(config.learning_rate, eps=1e-5))


def init(key: jax.Array, config: Config, env: Environment) -> State:
    """A fresh learner for an environment."""
    key, key_params = jax.random.split(key)
    params = network(config, env).init(key_params, jnp.zeros(env.observation_size))
    return State(params=params, opt_state=optimiser(config).init(params), update=jnp.int32(0), key=key)


def make_policy(actor: ActorCritic, temperature: float | jax.Array = 1.0) -> Policy:
    """The network as a policy over observations (B, D)."""

    def policy(params, observation, carry, key):
        logits = actor.apply(params, observation).logits / temperature
        action, log_prob = distributions.Categorical(logits).sample_and_log_prob(seed=key)
        return action, log_prob, carry

    return policy


def play(
    params: Any,
    config: Config,
    env: Environment,
    env_params: Any,
    key: jax.Array,
    states: Any = None,
    temperature: float | jax.Array = 1.0,
) -> Trajectory:
    """Play whole melodies -> Trajectory (T, B), rewarded by the environment.

    `states` (B, ...) are the environment's states to begin with; fresh ones by default.
    """
    key_reset, key_play = jax.random.split(key)
    if states is None:
        keys = jax.random.split(key_reset, config.num_envs)
        states = jax.vmap(env.initial, in_axes=(0, None))(keys, env_params)

    def advance(state, action):
        after = env.advance(state, action, env_params)
        return after, env.reward(state, action, after)

    observe = jax.vmap(lambda state: env.observe(state, env_params))
    policy = make_policy(network(config, env), temperature)
    return rollout(
        policy, params, (), states, key_play, config.num_steps, advance=jax.vmap(advance), observe=observe
    )[0]


def log_prob(params: Any, actor: ActorCritic, trajectory: Trajectory) -> jax.Array:
    """Log pi(a|s) of what was played, under any parameters: float32 (T, B)."""
    return distributions.Categorical(actor.apply(params, trajectory.observation).logits).log_prob(
        trajectory.action
    )


def loss(
    params: Any, actor: ActorCritic, batch: Batch, config: Config
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The clipped surrogate, the value loss and the entropy of a minibatch -> loss, metrics."""
    logits, value = actor.apply(params, batch.observation)
    distribution = distributions.Categorical(logits)
    log_ratio = distribution.log_prob(batch.action) - batch.log_prob
    policy, metrics = policy_losses.clipped_surrogate(log_ratio, batch.advantage, config.clip_eps)
    error = value_losses.clipped_value_loss(value, batch.value, batch.target, config.vf_clip_eps)
    entropy = distribution.entropy().mean()
    total = policy + config.vf_coef * error - config.ent_coef * entropy
    return total, {
        "loss/policy_avg": policy,
        "loss/value_avg": error,
        "policy/entropy_avg": entropy,
        **metrics,
    }


def prepare(params: Any, config: Config, actor: ActorCritic, trajectory: Trajectory) -> Batch:
    """Values, advantages and targets of the notes that were played (T, B) -> Batch of T * B notes."""
    value = actor.apply(params, trajectory.observation).value
    advantage = returns.advantages(trajectory.reward, value, config.gamma, config.gae_lambda)
    seen = trajectory.observation, trajectory.action, trajectory.log_prob
    batch = Batch(*seen, value, advantage, advantage + value)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def update_policy(
    params: Any,
    opt_state: Any,
    config: Config,
    actor: ActorCritic,
    trajectory: Trajectory,
    key: jax.Array,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """Epochs of minibatches on played melodies -> params, opt_state, metrics.

    Args:
        params: of the policy and its value.
        opt_state: of the optimiser.
        config: see Config.
        actor: the network.
        trajectory: (T, B), played under `params`.
        key: of the shuffling.

    """
    batch = collectives.each(prepare, params, config, actor, trajectory)
    notes = batch.action.shape[0]
    if notes % config.num_minibatches:
        raise ValueError(f"{notes} notes cannot be shared by {config.num_minibatches} minibatches")
    learner = optimiser(config)

    def minibatch_step(carry, part):
        params, opt_state = carry
        chosen = jax.tree.map(lambda x: x[part], batch)
        if config.normalize_advantages:
            chosen = chosen._replace(advantage=minibatches.normalized(chosen.advantage))
        (_, metrics), gradient = collectives.value_and_grad(lambda p: loss(p, actor, chosen, config))(params)
        updates, opt_state = learner.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), metrics

    parts = minibatches.shuffled(key, notes, config.num_epochs, config.num_minibatches)
    (params, opt_state), metrics = jax.lax.scan(minibatch_step, (params, opt_state), parts)
    explained = collectives.each(value_losses.explained_variance, batch.value, batch.target)
    return params, opt_state, {**jax.tree.map(jnp.mean, metrics), "explained_variance": explained}


def step(
    state: State, config: Config, env: Environment, env_params: Any
) -> tuple[State, dict[str, jax.Array]]:
    """One update on the environment's own reward. Metrics: those of `loss`, and the mean return."""
    key, key_play, key_learn = jax.random.split(state.key, 3)
    trajectory = collectives.each(play, state.params, config, env, env_params, key_play)
    params, opt_state, metrics = update_policy(
        state.params, state.opt_state, config, network(config, env), trajectory, key_learn
    )
    outcome = collectives.each(lambda: trajectory.reward.sum(axis=0).mean())
    metrics = {**metrics, "return": outcome}
    return State(params, opt_state, state.update + 1, key), metrics
