# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportArgumentType=false
# (flax declares that apply returns a tuple)
"""Proximal policy optimisation (Schulman et al. 2017).

    L(theta) = E[ -min(r A, clip(r, 1 - e, 1 + e) A) + c_v L_V - c_e H ],   r = pi(a|s) / pi_old(a|s)

`step` learns in any environment of gymnax's contract with discrete actions: episodes go on from update to
update, those that are truncated are bootstrapped. The network, the reward and the loss can be replaced.

`play` and `update_policy` are its two halves for whole melodies, each played from its start to its end, where
nothing is bootstrapped. gail.py puts a learned reward between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.environments import Environment, episodes
from mammadai_jax.fields import MAX_WIDTH, static, traced
from mammadai_jax.learning import collectives, minibatches, optimisers
from mammadai_jax.learning.rollout import Policy, Trajectory, rollout
from mammadai_jax.networks.mlp import ActorCritic
from mammadai_jax.objectives import distributions, policy_losses, returns, value_losses


@struct.dataclass
class Config:
    """Settings of PPO.

    Attributes:
        hidden: units of each hidden layer.
        num_envs: melodies played in an update; or environments that are played side by side.
        num_steps: steps of a melody; or steps of each environment in an update.
        num_epochs: passes over the data; PPO's over the steps of an update.
        num_minibatches: minibatches of an epoch.
        learning_rate: step size of the optimiser.
        gamma: discount of a step.
        gae_lambda: lambda of generalised advantage estimation.
        clip_eps: largest difference of the probability ratio from 1.
        vf_clip_eps: largest change of a value in an update; None for no limit.
        vf_coef: weight of the value loss.
        ent_coef: weight of the policy's entropy.
        max_grad_norm: largest global norm of the gradient.
        normalize_advantages: whether advantages are standardised in each minibatch.

    """

    hidden: tuple[int, ...] = static((64, 64), low=1, high=MAX_WIDTH)
    num_envs: int = static(16, low=1)
    num_steps: int = static(256, low=1)
    num_epochs: int = static(4, low=1)
    num_minibatches: int = static(8, low=1)
    learning_rate: float = traced(1e-3, low=0)
    gamma: float = traced(0.99, low=0, high=1)
    gae_lambda: float = traced(0.95, low=0, high=1)
    clip_eps: float = traced(0.2, low=0)
    vf_clip_eps: float | None = traced(None, low=0, unit="return")
    vf_coef: float = traced(0.5, low=0)
    ent_coef: float = traced(0.0, low=0)
    max_grad_norm: float = traced(0.5, low=0)
    normalize_advantages: bool = static(True)


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the network.
        opt_state: of the optimiser.
        update: int32, number of updates made.
        episodes: where the environments are, see environments.Episodes; () for who plays whole melodies.
        key: of the next update.

    """

    params: Any
    opt_state: Any
    update: jax.Array
    episodes: Any = collectives.own()
    key: jax.Array = collectives.own()


class Batch(NamedTuple):
    """Steps to learn from, each (N, ...): log_prob and value are of the policy that played them."""

    observation: Any
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


Loss = Callable[[Any, Any, Batch, Config], tuple[jax.Array, dict[str, jax.Array]]]
RewardFn = Callable[[Trajectory], jax.Array]


def make_network(config: Config, env: Any) -> ActorCritic:
    """The policy and value networks of a config, for flat observations."""
    return ActorCritic(env.num_actions, config.hidden)


def optimiser(config: Config) -> optax.GradientTransformation:
    """Adam with epsilon 1e-5 behind a global-norm clip."""
    clip = optax.clip_by_global_norm(config.max_grad_norm)
    return optax.chain(clip, optax.adam(config.learning_rate, eps=1e-5))


def init(key: jax.Array, config: Config, env: Any, env_params: Any = None, *, network: Any = None) -> State:
    """A new learner.

    Args:
        key: of all that is drawn from here on.
        config: see Config.
        env: any environment of gymnax's contract with discrete actions (environments.check).
        env_params: its params; its own by default.
        network: a flax module whose `apply(params, observation)` gives logits (..., A) and value (...);
            `make_network` by default.

    """
    key, key_params = jax.random.split(key)
    key, key_reset = jax.random.split(key)
    env_params = env.default_params if env_params is None else env_params
    first = episodes.begin(key_reset, env, env_params, config.num_envs)
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), first.observation)
    params = (make_network(config, env) if network is None else network).init(key_params, blank)
    return State(params, optimiser(config).init(params), jnp.int32(0), first, key)


def make_policy(network: Any, temperature: float | jax.Array = 1.0) -> Policy:
    """The network as a policy over observations (B, ...)."""

    def policy(params, observation, carry, key):
        logits = distributions.at_temperature(network.apply(params, observation)[0], temperature)
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
    *,
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
    policy = make_policy(make_network(config, env), temperature)
    return rollout(
        policy, params, (), states, key_play, config.num_steps, advance=jax.vmap(advance), observe=observe
    )[0]


def log_prob(params: Any, network: Any, trajectory: Trajectory) -> jax.Array:
    """Log pi(a|s) of the actions played, under any parameters: float32 (T, B)."""
    logits = network.apply(params, trajectory.observation)[0]
    return distributions.Categorical(logits).log_prob(trajectory.action)


def clipped_loss(
    params: Any, network: Any, batch: Batch, config: Config
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The clipped surrogate, the value loss and the entropy of a minibatch (N,) -> loss, metrics, each ()."""
    logits, value = network.apply(params, batch.observation)
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


def prepare(
    params: Any,
    config: Config,
    network: Any,
    trajectory: Trajectory,
    discount: Any = None,
    last_value: Any = None,
) -> Batch:
    """Values, advantages and targets of the steps of a trajectory (T, B) -> Batch of T * B steps."""
    value = network.apply(params, trajectory.observation)[1]
    discount = config.gamma if discount is None else discount
    advantage = returns.advantages(
        trajectory.reward, value, discount, config.gae_lambda, last_value=last_value
    )
    played = trajectory.observation, trajectory.action, trajectory.log_prob
    batch = Batch(*played, value, advantage, advantage + value)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def update_policy(
    params: Any,
    opt_state: Any,
    config: Config,
    network: Any,
    trajectory: Trajectory,
    key: jax.Array,
    *,
    discount: jax.Array | None = None,
    last_value: jax.Array | None = None,
    loss: Loss = clipped_loss,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """Epochs of minibatches on a trajectory -> params, opt_state, metrics.

    Args:
        params: of the network.
        opt_state: of the optimiser.
        config: see Config.
        network: of the policy and its value.
        trajectory: (T, B), played under `params`; reward float32 (T, B).
        key: of the shuffling.
        discount: of each step, float32 (T, B); gamma by default, as within one episode.
        last_value: of the states after the trajectory, float32 (B,); 0 by default, as after an episode.
        loss: (params, network, batch, config) -> loss, metrics.

    Raises:
        ValueError: if the steps cannot be divided into minibatches.

    """
    chex.assert_rank(trajectory.reward, 2)
    batch = collectives.each(prepare, params, config, network, trajectory, discount, last_value)
    notes = batch.action.shape[0]
    if notes % config.num_minibatches:
        raise ValueError(
            f"num_steps x num_envs = {notes} cannot be divided into {config.num_minibatches} minibatches: "
            "change num_minibatches"
        )

    def minibatch_step(carry, indices):
        params, opt_state = carry
        part = jax.tree.map(lambda x: x[indices], batch)
        if config.normalize_advantages:
            part = part._replace(advantage=minibatches.normalized(part.advantage))
        (_, metrics), gradient = collectives.value_and_grad(lambda p: loss(p, network, part, config))(params)
        return optimisers.step(optimiser(config), params, opt_state, gradient=gradient), metrics

    indices = minibatches.shuffled(key, notes, config.num_epochs, config.num_minibatches)
    (params, opt_state), metrics = jax.lax.scan(minibatch_step, (params, opt_state), indices)
    explained = collectives.each(value_losses.explained_variance, batch.value, batch.target)
    return params, opt_state, {**jax.tree.map(jnp.mean, metrics), "explained_variance": explained}


def continue_episodes(
    state: State, config: Config, env: Any, env_params: Any, network: Any, key: jax.Array
) -> tuple[Trajectory, episodes.Episodes]:
    """`num_steps` steps of every environment -> Trajectory (T, B) with rewards of Outcome, Episodes."""
    trajectory, after, _ = rollout(
        make_policy(network), state.params, (), state.episodes, key, config.num_steps,
        advance=episodes.make_advance(env, env_params),
        observe=lambda now: now.observation,
    )  # fmt: skip
    return trajectory, after


def bootstrap(
    params: Any, config: Config, network: Any, trajectory: Trajectory, reward_fn: RewardFn
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rewards and discounts (T, B) with truncated episodes bootstrapped, and the last states' values (B,)."""
    outcome = trajectory.reward
    final_value = network.apply(params, outcome.final_observation)[1]
    reward = returns.bootstrapped(reward_fn(trajectory), outcome.truncated, final_value, config.gamma)
    return reward, config.gamma * outcome.discount, final_value[-1]


def step(
    state: State,
    config: Config,
    env: Any,
    env_params: Any = None,
    *,
    network: Any = None,
    reward_fn: RewardFn = lambda trajectory: trajectory.reward.reward,
    loss: Loss = clipped_loss,
) -> tuple[State, dict[str, jax.Array]]:
    """One update: `num_steps` steps of every environment, then epochs of minibatches.

    Args:
        state: see State.
        config: see Config.
        env: any environment of gymnax's contract with discrete actions, as for `init`.
        env_params: its params; its own by default.
        network: as for `init`.
        reward_fn: the reward float32 (T, B) of a trajectory, whose `reward` is an environments.Outcome
            (T, B); the environment's own by default.
        loss: (params, network, batch, config) -> loss, metrics.

    Returns:
        The state, and metrics: those of the loss; `return`, the mean over environments of the sum of the
        environment's own rewards in the last episode that ended, 0 before the first end.

    """
    network = make_network(config, env) if network is None else network
    env_params = env.default_params if env_params is None else env_params
    key, key_play, key_update = jax.random.split(state.key, 3)
    trajectory, now = collectives.each(continue_episodes, state, config, env, env_params, network, key_play)
    arguments = state.params, config, network, trajectory, reward_fn
    reward, discount, last_value = collectives.each(bootstrap, *arguments)
    params, opt_state, metrics = update_policy(
        state.params, state.opt_state, config, network, trajectory._replace(reward=reward), key_update,
        discount=discount, last_value=last_value, loss=loss,
    )  # fmt: skip
    metrics["return"] = collectives.each(lambda: now.last_return.mean())
    return State(params, opt_state, state.update + 1, now, key), metrics
