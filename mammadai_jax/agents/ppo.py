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

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.agents import shards
from mammadai_jax.agents.categorical import Categorical
from mammadai_jax.agents.rollout import Policy, Trajectory, rollout
from mammadai_jax.environments import Environment
from mammadai_jax.networks.mlp import ActorCritic

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
    key: jax.Array = shards.own()


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
        action, log_prob = Categorical(logits).sample_and_log_prob(key)
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
    return rollout(policy, params, (), states, key_play, config.num_steps, jax.vmap(advance), observe)[0]


def log_prob(params: Any, actor: ActorCritic, trajectory: Trajectory) -> jax.Array:
    """Log pi(a|s) of what was played, under any parameters: float32 (T, B)."""
    return Categorical(actor.apply(params, trajectory.observation).logits).log_prob(trajectory.action)


def advantages(
    reward: jax.Array, value: jax.Array, discount: float | jax.Array, gae_lambda: float | jax.Array
) -> jax.Array:
    """Generalised advantage estimates of whole melodies (Schulman et al. 2016).

        A_t = sum_k (gamma lambda)^k delta_{t+k},   delta_t = r_t + gamma V(s_{t+1}) - V(s_t),   V(s_T) = 0

    Args:
        reward: float32 (T, B).
        value: V of each state, float32 (T, B).
        discount: gamma.
        trace: lambda.

    Returns:
        float32 (T, B).

    """
    import rlax  # slow to import, and needed by nobody who only plays

    chex.assert_rank([reward, value], 2)
    chex.assert_equal_shape([reward, value])
    discounts = jnp.full_like(reward, discount)
    values = jnp.concatenate([value, jnp.zeros_like(value[:1])])
    estimate = jax.vmap(rlax.truncated_generalized_advantage_estimation, (1, 1, None, 1), 1)
    return estimate(reward, discounts, gae_lambda, values)


def normalized(advantage: jax.Array) -> jax.Array:
    """Advantages of notes (N,), standardised among those of all shards."""
    of_all = shards.gather(advantage)
    return (advantage - of_all.mean()) / (of_all.std() + 1e-8)


def policy_loss(
    log_ratio: jax.Array, advantage: jax.Array, clip: float | jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The clipped surrogate of notes (N,) -> loss, metrics.

    Args:
        log_ratio: log pi(a|s) - log pi_old(a|s).
        advantage: of the notes.
        clip: e, of the ratio.

    """
    import rlax

    ratio = jnp.exp(log_ratio)
    metrics = {
        "policy/approxkl_avg": (ratio - 1.0 - log_ratio).mean(),
        "policy/clipfrac_avg": (jnp.abs(ratio - 1.0) > clip).mean(),
    }
    return rlax.clipped_surrogate_pg_loss(ratio, advantage, clip), metrics


def value_loss(
    value: jax.Array, before: jax.Array, target: jax.Array, clip: float | jax.Array | None = None
) -> jax.Array:
    """Half the mean squared error of values; with a clip, those far from what was said before err more."""
    errors = (value - target) ** 2
    if clip is not None:
        near = before + jnp.clip(value - before, -clip, clip)
        errors = jnp.maximum(errors, (near - target) ** 2)
    return 0.5 * errors.mean()


def explained_variance(value: jax.Array, target: jax.Array) -> jax.Array:
    """The share of the targets' variance that the values foresaw, at most 1."""
    return 1.0 - jnp.var(target - value) / (jnp.var(target) + 1e-8)


def loss(
    params: Any, actor: ActorCritic, batch: Batch, config: Config
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The clipped surrogate, the value loss and the entropy of a minibatch -> loss, metrics."""
    logits, value = actor.apply(params, batch.observation)
    distribution = Categorical(logits)
    log_ratio = distribution.log_prob(batch.action) - batch.log_prob
    policy, metrics = policy_loss(log_ratio, batch.advantage, config.clip_eps)
    error = value_loss(value, batch.value, batch.target, config.vf_clip_eps)
    entropy = distribution.entropy().mean()
    total = policy + config.vf_coef * error - config.ent_coef * entropy
    return total, {
        "loss/policy_avg": policy,
        "loss/value_avg": error,
        "policy/entropy_avg": entropy,
        **metrics,
    }


def shuffled(key: jax.Array, items: int, epochs: int, minibatches: int) -> jax.Array:
    """Which items each minibatch of each epoch holds: int32 (epochs * minibatches, items / minibatches)."""
    orders = jax.vmap(lambda k: jax.random.permutation(k, items))(jax.random.split(key, epochs))
    return orders.reshape(epochs * minibatches, -1)


def prepare(params: Any, config: Config, actor: ActorCritic, trajectory: Trajectory) -> Batch:
    """Values, advantages and targets of the notes that were played (T, B) -> Batch of T * B notes."""
    value = actor.apply(params, trajectory.observation).value
    advantage = advantages(trajectory.reward, value, config.gamma, config.gae_lambda)
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
    batch = shards.each(prepare, params, config, actor, trajectory)
    notes = batch.action.shape[0]
    if notes % config.num_minibatches:
        raise ValueError(f"{notes} notes cannot be shared by {config.num_minibatches} minibatches")
    learner = optimiser(config)

    def minibatch_step(carry, part):
        params, opt_state = carry
        chosen = jax.tree.map(lambda x: x[part], batch)
        if config.normalize_advantages:
            chosen = chosen._replace(advantage=normalized(chosen.advantage))
        (_, metrics), gradient = shards.value_and_grad(lambda p: loss(p, actor, chosen, config))(params)
        updates, opt_state = learner.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), metrics

    parts = shuffled(key, notes, config.num_epochs, config.num_minibatches)
    (params, opt_state), metrics = jax.lax.scan(minibatch_step, (params, opt_state), parts)
    explained = shards.each(explained_variance, batch.value, batch.target)
    return params, opt_state, {**jax.tree.map(jnp.mean, metrics), "explained_variance": explained}


def step(
    state: State, config: Config, env: Environment, env_params: Any
) -> tuple[State, dict[str, jax.Array]]:
    """One update on the environment's own reward. Metrics: those of `loss`, and the mean return."""
    key, key_play, key_learn = jax.random.split(state.key, 3)
    trajectory = shards.each(play, state.params, config, env, env_params, key_play)
    params, opt_state, metrics = update_policy(
        state.params, state.opt_state, config, network(config, env), trajectory, key_learn
    )
    outcome = shards.each(lambda: trajectory.reward.sum(axis=0).mean())
    metrics = {**metrics, "return": outcome}
    return State(params, opt_state, state.update + 1, key), metrics
