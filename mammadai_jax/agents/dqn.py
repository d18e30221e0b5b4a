# pyright: reportAttributeAccessIssue=false, reportReturnType=false, reportArgumentType=false
# pyright: reportCallIssue=false
# (flax adds `replace` and constructors to its dataclasses, and declares that apply returns a tuple)
"""Deep Q-learning (Mnih et al. 2015) with double Q-targets (van Hasselt et al. 2016).

    L(theta) = E[ (r + gamma d Q'(s', argmax_a Q(s', a)) - Q(s, a))^2 ] / 2

Q' is the target network; d is 0 where the episode terminated, and 1 where it was truncated: then s' is the
observation before the reset. `step` plays any environment of gymnax's contract with discrete actions by an
epsilon-greedy policy, puts the transitions into a replay buffer and learns from minibatches of it.

For melodies and rules see agents/tuner, whose network is recurrent and starts as a prior.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from mammadai_jax.environments import episodes
from mammadai_jax.fields import MAX_WIDTH, static, traced
from mammadai_jax.learning import collectives, optimisers
from mammadai_jax.learning.rollout import Policy, Trajectory, rollout
from mammadai_jax.networks.mlp import MLP


@struct.dataclass
class Config:
    """Settings of deep Q-learning.

    Attributes:
        hidden: units of each hidden layer.
        num_envs: melodies played in an update; or environments that are played side by side.
        num_steps: steps of a melody; or steps of each environment in an update.
        num_minibatches: minibatches of an epoch; an update is one.
        batch_size: examples in a minibatch; here transitions.
        buffer_size: melodies or transitions that the replay buffer holds.
        double_q: whether the network chooses the action that the target network evaluates.
        gamma: discount of a step.
        epsilon: final probability of a random action; it falls linearly from 1.
        epsilon_decay: notes until epsilon has its final value; or steps of all environments.
        learning_rate: step size of the optimiser.
        max_grad_norm: largest global norm of the gradient.
        tau: share by which averaged parameters move towards the new ones; after each minibatch.

    """

    hidden: tuple[int, ...] = static((64, 64), low=1, high=MAX_WIDTH)
    num_envs: int = static(16, low=1)
    num_steps: int = static(4, low=1)
    num_minibatches: int = static(1, low=1)
    batch_size: int = static(64, low=1)
    buffer_size: int = static(10_000, low=1)
    double_q: bool = static(True)
    gamma: float = traced(0.99, low=0, high=1)
    epsilon: float = traced(0.05, low=0, high=1)
    epsilon_decay: int = traced(10_000, low=1, unit="notes")
    learning_rate: float = traced(1e-3, low=0)
    max_grad_norm: float = traced(10.0, low=0)
    tau: float = traced(0.01, low=0, high=1)


@struct.dataclass
class State:
    """Everything that must survive a crash.

    Attributes:
        params: of the network.
        target: of the target network, the Polyak average of `params`.
        opt_state: of the optimiser.
        update: int32, number of updates made.
        episodes: where the environments are, see environments.Episodes.
        replay: flashbax's buffer.
        key: of the next update.

    """

    params: Any
    target: Any
    opt_state: Any
    update: jax.Array
    episodes: Any = collectives.own()
    replay: Any = collectives.own()
    key: jax.Array = collectives.own()


class Transition(NamedTuple):
    """Steps (N, ...): `discount` is 0 where the episode terminated, else 1."""

    observation: Any
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    next_observation: Any


def make_network(config: Config, env: Any) -> MLP:
    """The action values' network of a config, for flat observations."""
    return MLP(config.hidden, env.num_actions, activation=jax.nn.relu)


def optimiser(config: Config) -> optax.GradientTransformation:
    """Adam behind a global-norm clip."""
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(config.learning_rate))


def buffer(config: Config) -> Any:
    """Replay of the newest `buffer_size` transitions, sampled uniformly, `batch_size` at a time."""
    import flashbax  # slow to import

    return flashbax.make_item_buffer(config.buffer_size, 1, config.batch_size, add_batches=True)


def init(key: jax.Array, config: Config, env: Any, env_params: Any = None, *, network: Any = None) -> State:
    """A new learner.

    Args:
        key: of all that is drawn from here on.
        config: see Config.
        env: any environment of gymnax's contract with discrete actions (environments.check).
        env_params: its params; its own by default.
        network: a flax module whose `apply(params, observation)` gives action values (..., A);
            `make_network` by default.

    Raises:
        ValueError: if the replay buffer cannot hold what an update plays, or a batch.

    """
    count = config.num_envs * config.num_steps
    if config.buffer_size < max(count, config.batch_size):
        raise ValueError(
            f"a buffer_size of {config.buffer_size} is less than the {count} transitions of an update or a "
            f"batch_size of {config.batch_size}"
        )
    key, key_params, key_reset = jax.random.split(key, 3)
    env_params = env.default_params if env_params is None else env_params
    first = episodes.begin(key_reset, env, env_params, config.num_envs)
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), first.observation)
    params = (make_network(config, env) if network is None else network).init(key_params, blank)
    replay = buffer(config).init(Transition(blank, jnp.int32(0), jnp.float32(0), jnp.float32(0), blank))
    # flashbax's counters are weakly typed: a restored state, whose are not, would be traced again
    replay = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), replay)
    target = jax.tree.map(jnp.copy, params)
    return State(params, target, optimiser(config).init(params), jnp.int32(0), first, replay, key)


def epsilon_at(config: Config, update: jax.Array) -> jax.Array:
    """Probability () of a random action in update number `update` ()."""
    chex.assert_rank(update, 0)
    steps = update * config.num_envs * config.num_steps * collectives.count()
    left = jnp.maximum(0.0, 1.0 - steps / jnp.maximum(1, config.epsilon_decay))
    return config.epsilon + (1.0 - config.epsilon) * left


def make_policy(network: Any, epsilon: float | jax.Array) -> Policy:
    """The epsilon-greedy policy over observations (B, ...)."""
    import distrax  # slow to import

    def policy(params, observation, carry, key):
        values = network.apply(params, observation)
        action, log_prob = distrax.EpsilonGreedy(values, epsilon).sample_and_log_prob(seed=key)
        return action, log_prob, carry

    return policy


def transitions_of(trajectory: Trajectory) -> Transition:
    """A trajectory (T, B) with rewards of environments.Outcome as T * B transitions."""
    outcome = trajectory.reward
    going_on = 1.0 - outcome.terminated.astype(jnp.float32)
    steps = Transition(
        trajectory.observation, trajectory.action, outcome.reward, going_on, outcome.final_observation
    )
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)


def td_loss(params: Any, target: Any, network: Any, batch: Transition, config: Config) -> jax.Array:
    """Half the mean squared temporal-difference error of a minibatch, float32 ()."""
    import rlax  # slow to import

    chex.assert_rank([batch.action, batch.reward, batch.discount], 1)
    values = network.apply(params, batch.observation)
    next_values = network.apply(target, batch.next_observation)
    selector = network.apply(params, batch.next_observation) if config.double_q else next_values
    discount = config.gamma * batch.discount
    arguments = values, batch.action, batch.reward, discount, next_values, selector
    return 0.5 * jnp.square(jax.vmap(rlax.double_q_learning)(*arguments)).mean()


def play(
    state: State, config: Config, env: Any, env_params: Any, network: Any, key: jax.Array
) -> tuple[Trajectory, episodes.Episodes]:
    """`num_steps` steps of every environment -> Trajectory (T, B) with rewards of Outcome, Episodes."""
    trajectory, now, _ = rollout(
        make_policy(network, epsilon_at(config, state.update)),
        state.params, (), state.episodes, key, config.num_steps,
        advance=episodes.make_advance(env, env_params),
        observe=lambda now: now.observation,
    )  # fmt: skip
    return trajectory, now


def step(
    state: State, config: Config, env: Any, env_params: Any = None, *, network: Any = None
) -> tuple[State, dict[str, jax.Array]]:
    """One update: play, remember, learn; arguments as for `init`.

    Metrics: `loss`; `epsilon`; `return`, the mean over environments of the sum of rewards in the last episode
    that ended, 0 before the first end.
    """
    network = make_network(config, env) if network is None else network
    env_params = env.default_params if env_params is None else env_params
    key, key_play, key_sample = jax.random.split(state.key, 3)
    trajectory, now = collectives.each(play, state, config, env, env_params, network, key_play)
    replay = buffer(config).add(state.replay, transitions_of(trajectory))
    # all are drawn here, after the write and outside of the scan: within it the buffer would be copied
    sample = lambda key: buffer(config).sample(replay, key).experience
    batches = jax.vmap(sample)(jax.random.split(key_sample, config.num_minibatches))

    def minibatch_step(carry, batch):
        params, target, opt_state = carry
        gradient_of = collectives.value_and_grad(td_loss, has_aux=False)
        loss, gradient = gradient_of(params, target, network, batch, config)
        params, opt_state = optimisers.step(optimiser(config), params, opt_state, gradient=gradient)
        return (params, optax.incremental_update(params, target, config.tau), opt_state), loss

    carry, loss = jax.lax.scan(minibatch_step, (state.params, state.target, state.opt_state), batches)
    mean_return = collectives.each(lambda: now.last_return.mean())
    metrics = {"loss": loss.mean(), "epsilon": epsilon_at(config, state.update), "return": mean_return}
    return State(*carry, state.update + 1, now, replay, key), metrics
